package certmgr

import (
	"slices"

	"github.com/nostall/nostall/internal/hosts"
)

// warnOfPrivateAddresses gives a warning if Let's Encrypt is about to be asked
// for a certificate of an address that only a private CA certifies. That is tried
// all the same: the CA says what it does.
func (o *orders) warnOfPrivateAddresses(sub subject) {
	if !isLetsEncrypt(o.dir) {
		return
	}
	if slices.ContainsFunc(sub.names(), func(name string) bool { return hosts.IsAddress(name) && hosts.Private(name) != "" }) {
		o.warnings.warn("Manager.Hosts or HostWhitelist has IP addresses that no public CA certifies, such as those of private networks: " +
			"list the address that clients connect to, and set PublicAddrs if this machine has another; or use a CA of your own by Manager.Client")
	}
}
