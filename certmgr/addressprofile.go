package certmgr

import (
	"context"
	"slices"

	"github.com/nostall/nostall/internal/hosts"
)

// addressProfile is the profile of orders for IP addresses that have none set.
// Let's Encrypt certifies addresses with no other one
// (https://letsencrypt.org/docs/profiles), and its default is another.
const addressProfile = "shortlived"

// unset returns the profile for a subject without one: addressProfile if it has
// an IP address and the directory lists that, and otherwise the CA's choice.
func (p *profiles) unset(ctx context.Context, sub subject) profile {
	if slices.ContainsFunc(sub.names(), hosts.IsAddress) && p.list(ctx, addressProfile).Has(addressProfile) {
		return profile{addressProfile, "the default for IP addresses"}
	}
	return profile{}
}
