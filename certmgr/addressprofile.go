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
func (p *profiles) unset(ctx context.Context, sub subject) (profile, error) {
	if !slices.ContainsFunc(sub.names(), hosts.IsAddress) {
		return profile{}, nil
	}
	list, err := p.list(ctx, addressProfile)
	switch {
	case !list.Known:
		return profile{}, err
	case list.Has(addressProfile):
		return profile{addressProfile, "the default for IP addresses"}, nil
	}
	return profile{}, nil
}
