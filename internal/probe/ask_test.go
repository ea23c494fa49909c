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
		{"64:ff9b::5db8:d822", true},  // 93.184.216.34, as DNS64 writes it
		{"2002:7f00:1::", false},      // 127.0.0.1 through 6to4
		{"2002:5db8:d822::1", true},

		// IANA's registries of special-purpose addresses, and their edges.
		{"93.184.216.34", true},
		{"2606:2800:220:1::1", true},
		{"172.16.0.1", true},
		{"192.168.0.1", true},
		{"198.51.100.1", true},
		{"203.0.113.1", true},
		{"3fff::1", true},
		{"0.255.255.255", false},
		{"1.0.0.0", true},
		{"100.63.255.255", true},
		{"100.64.0.0", false},
		{"100.127.255.255", false},
		{"100.128.0.0", true},
		{"127.255.255.255", false},
		{"168.63.129.15", true},
		{"168.63.129.17", true},
		{"169.254.0.0", false},
		{"192.0.1.0", true},
		{"192.88.99.1", false},
		{"198.17.255.255", true},
		{"198.18.0.1", false},
		{"198.19.255.255", false},
		{"198.20.0.0", true},
		{"239.255.255.255", false},
		{"::ffff:169.254.169.254", false},
		{"::ffff:0:169.254.169.254", false}, // IPv4-translated (RFC 2765)
		{"::169.254.169.254", false},        // IPv4-compatible
		{"::10.0.0.1", false},
		{"64:ff9b::6440:1", false},      // 100.64.0.1
		{"64:ff9b::a00:1", true},        // 10.0.0.1
		{"64:ff9b:1::a9fe:a9fe", false}, // local NAT64 (RFC 8215)
		{"100::1", false},               // discarded (RFC 6666)
		{"2001::1", false},              // Teredo
		{"2001:0:a9fe:a9fe::1", false},  // Teredo
		{"2001:2::1", false},            // benchmarks
		{"2001:20::1", false},           // ORCHID
		{"2001:200::1", true},           // an ordinary one
		{"2002:a9fe:a9fe::1", false},    // 169.254.169.254
		{"5f00::1", false},              // segment routing (RFC 9602)
		{"fc00::1", true},
		{"fd00:ec2::253", false},
		{"fd00:42::42", false},
		{"fd00:c1::a9fe:a9fe", false},
		{"fd20:ce::254", false},
		{"fe80::1%eth0", false},
		{"2606:2800:220:1::1%eth0", false},
		{"fec0::1", false},
		{"ff02::1", false},
	} {
		table.Run(t, "H21/"+tt.addr, func(t *cases.T) {
			if _, not := new(Checker).unaskable(netip.MustParseAddr(tt.addr).Unmap()); not == tt.asked {
				t.Errorf("asked: %v, want %v", !not, tt.asked)
			}
		})
	}
}

// Who has a CA of their own behind such addresses says so.
func TestAllowedAddressesAreAsked(t *testing.T) {
	c := New(Config{Allow: []netip.Prefix{netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("127.0.0.1/32")}})
	for addr, asked := range map[string]bool{"100.64.1.1": true, "127.0.0.1": true, "127.0.0.2": false, "169.254.169.254": false, "192.0.2.1": true} {
		if _, not := c.unaskable(netip.MustParseAddr(addr)); not == asked {
			t.Errorf("%s is asked: %v, want %v", addr, !not, asked)
		}
	}
}
