package order

import (
	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/internal/text"
)

// maxProfile bounds a CA's name of a profile in a Result.
const maxProfile = 64

// noteProfile notes the profile that the CA says an order has. order may be nil.
func (c *conversation) noteProfile(order *acme.Order) {
	if order != nil && order.Profile != "" {
		c.res.Profile = text.OneLine(string(order.Profile), maxProfile)
	}
}

// MaxNames returns how many names a certificate with a profile may have: 100 with
// most public CAs, and 25 for the profiles of Let's Encrypt that allow no more.
func MaxNames(profile string) int {
	switch profile {
	case "tlsserver", "shortlived":
		return 25
	}
	return 100
}
