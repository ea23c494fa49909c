package probe

import (
	"net/netip"
	"os"
	"testing"

	"github.com/nostall/nostall/internal/cases"
)

// table knows the cases of this package that are known to fail.
var table = cases.For("probe")

func TestMain(m *testing.M) { os.Exit(table.Main(m)) }

// H21 (hostile review): a preflight asks no address that a CA would not, such
// as a cloud's metadata service, in whatever way it is written. A name's owner
// chooses its addresses.
func TestNoInnerAddressIsAsked(t *testing.T) {
	for _, tt := range []struct {
		addr  string
		asked bool
	}{
		{"192.0.2.1", true}, // documentation, and what tests have in the place of public ones
		{"2001:db8::1", true},
		{"10.0.0.1", true}, // a private CA reaches it
		{"fd00::1", true},
		{"127.0.0.1", false},
		{"::1", false},
		{"::ffff:127.0.0.1", false},
		{"::127.0.0.1", false},
		{"0.0.0.0", false},
		{"0.1.2.3", false},
		{"::", false},
		{"169.254.169.254", false},
		{"fe80::1", false},
		{"224.0.0.1", false},
		{"240.0.0.1", false},
		{"255.255.255.255", false},
		{"100.100.100.200", false},    // metadata of Alibaba Cloud
		{"168.63.129.16", false},      // of Azure
		{"192.0.0.192", false},        // of Oracle Cloud
		{"fd00:ec2::254", false},      // of AWS
		{"64:ff9b::a9fe:a9fe", false}, // 169.254.169.254 through NAT64
		{"64:ff9b::7f00:1", false},    // 127.0.0.1
		{"2002:7f00:1::", false},      // 127.0.0.1 through 6to4
	} {
		table.Run(t, "H21/"+tt.addr, func(t *cases.T) {
			if _, not := unaskable(netip.MustParseAddr(tt.addr).Unmap()); not == tt.asked {
				t.Errorf("asked: %v, want %v", !not, tt.asked)
			}
		})
	}
}
