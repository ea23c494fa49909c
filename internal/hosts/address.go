package hosts

import (
	"net/netip"
	"strings"
)

// IsAddress reports whether a name in normal form is an IP address.
func IsAddress(name string) bool {
	// Nearly all names are host names: spare them the parser's error.
	if name == "" || name[len(name)-1] > '9' && strings.IndexByte(name, ':') < 0 {
		return false
	}
	_, err := netip.ParseAddr(name)
	return err == nil
}
