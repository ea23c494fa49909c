package hosts

import (
	"strings"
	"testing"
)

func TestIsAddress(t *testing.T) {
	for name, want := range map[string]bool{
		"":                      false,
		"192.0.2.1":             true,
		"2001:db8::1":           true,
		"::1":                   true,
		"example.com":           false,
		"192.0.2.1.example.org": false,
		"example.xn--fiqs8s9":   false,
		"host.0x12":             false,
		"a.b.256":               false,
		"fe80::1%eth0":          true,
	} {
		if got := IsAddress(name); got != want {
			t.Errorf("IsAddress(%q) = %t", name, got)
		}
	}
}

// What people write for one address is one name.
func TestAddressesHaveOneForm(t *testing.T) {
	for written, want := range map[string]string{
		"192.0.2.1":                "192.0.2.1",
		"::ffff:192.0.2.1":         "192.0.2.1",
		"::FFFF:c000:201":          "192.0.2.1",
		"[::ffff:192.0.2.1]":       "192.0.2.1",
		"2001:DB8:0:0:0:0:0:1":     "2001:db8::1",
		"[2001:db8::1]":            "2001:db8::1",
		"64:ff9b::192.0.2.1":       "64:ff9b::c000:201",
		"::1":                      "::1",
		"[192.0.2.1]":              "",
		"[2001:db8::1":             "",
		"2001:db8::1]":             "",
		"[2001:db8::1%eth0]":       "",
		"fe80::1%eth0":             "",
		"192.0.2.1.":               "",
		"\uff11\uff19\uff12.0.2.1": "",
		"0xc0000201":               "",
		"":                         "",
		"[]":                       "",
		"0.0.0.0":                  "",
		"::":                       "",
	} {
		got, err := NormalizeAny(written)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("NormalizeAny(%q) = %q, %v, want %q", written, got, err, want)
		}
		if got != "" && !IsAddress(got) {
			t.Errorf("%q is no address", got)
		}
	}
	if host, err := NormalizeAny("Example.COM."); host != "example.com" || err != nil {
		t.Errorf("a host name: %q, %v", host, err)
	}
}

// Lists take addresses that a private CA may certify, and no others.
func TestAddressesAsEntries(t *testing.T) {
	for entry, want := range map[string]string{
		"127.0.0.1":     "127.0.0.1",
		"10.0.0.1":      "10.0.0.1",
		"[::1]":         "::1",
		"fd00::A":       "fd00::a",
		"8.8.8.8":       "8.8.8.8",
		"0.0.0.0":       "",
		"::":            "",
		"224.0.0.1":     "",
		"ff02::1":       "",
		"fe80::1":       "",
		"169.254.1.1":   "",
		"10.0.0.0/8":    "",
		"*.0.2.1":       "",
		"*.a.0xc0":      "",
		"192.0.2":       "",
		"192.0.2.01":    "",
		"host.0x7f":     "",
		"2001:db8::/64": "",
	} {
		got, err := ParseEntry(entry)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("ParseEntry(%q) = %q, %v, want %q", entry, got, err, want)
		}
	}
	set := Collect([]string{"*.example.com", "192.0.2.1", "2001:db8::1"})
	for host, want := range map[string]Match{"192.0.2.1": Exact, "2001:db8::1": Exact, "192.0.2.2": None, "2001:db8::": None} {
		if got := set.Match(host); got != want {
			t.Errorf("Match(%q) = %v, want %v", host, got, want)
		}
	}
}

func TestAddressesThatNoPublicCACertifies(t *testing.T) {
	for addr, want := range map[string]string{
		"8.8.8.8":              "",
		"2606:4700::1111":      "",
		"127.0.0.1":            "loopback",
		"::1":                  "loopback",
		"10.1.2.3":             "private network",
		"172.16.0.1":           "private network",
		"fd00::1":              "private network",
		"100.64.0.1":           "carrier",
		"192.0.2.1":            "documentation",
		"2001:db8::1":          "documentation",
		"198.19.0.1":           "benchmarks",
		"250.0.0.1":            "reserved",
		"64:ff9b::808:808":     "reserved",
		"fec0::1":              "reserved",
		"::ffff:0:8.8.8.8":     "reserved",
		"a.10.0.0.1.example.1": "", // no address
	} {
		if got := Private(addr); (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("Private(%q) = %q, want %q", addr, got, want)
		}
	}
	for _, addr := range []string{"0.0.0.0", "::", "239.1.1.1", "255.255.255.255", "ff0e::1", "fe80::1", "169.254.169.254"} {
		if Uncertifiable(addr) == "" {
			t.Errorf("Uncertifiable(%q) is empty", addr)
		}
	}
	if why := Uncertifiable("8.8.8.8"); why != "" {
		t.Errorf("an address in the Internet: %s", why)
	}
}

// CAs count certificates by IPv4 address and by IPv6 network.
func TestRegisteredDomainOfAddresses(t *testing.T) {
	for host, want := range map[string]string{
		"192.0.2.1":                   "192.0.2.1",
		"2001:db8:0:1::1":             "2001:db8:0:1::/64",
		"2001:db8:0:1:ffff::":         "2001:db8:0:1::/64",
		"::1":                         "::/64",
		"a.b.example.co.uk":           "example.co.uk",
		"example.xn--vermgensberater": "example.xn--vermgensberater",
	} {
		if got := RegisteredDomain(host); got != want {
			t.Errorf("RegisteredDomain(%q) = %q, want %q", host, got, want)
		}
	}
}

// Keys of addresses are file names everywhere, and lead back.
func TestKeysOfAddresses(t *testing.T) {
	for name, want := range map[string]string{
		"2001:db8::1": "2001_db8__1",
		"::1":         "__1",
		"2001:db8::":  "2001_db8__",
		"192.0.2.1":   "192.0.2.1",
		"example.com": "example.com",
	} {
		key := Key(name)
		if key != want || OfKey(key) != name {
			t.Errorf("the key of %q is %q, which is that of %q", name, key, OfKey(key))
		}
		if _, err := Normalize(key); err == nil && IsAddress(name) {
			t.Errorf("the key %q is a host name too", key)
		}
	}
	for _, key := range []string{"acme_account", "a_b.example.com", "2001_0db8__1", "LoqXcYV8_5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0", "_"} {
		if got := OfKey(key); got != key {
			t.Errorf("OfKey(%q) = %q, but no address has that key", key, got)
		}
	}
}

func TestReverseNames(t *testing.T) {
	const nibbles = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"
	for name, want := range map[string]string{"192.0.2.1": "1.2.0.192.in-addr.arpa", "2001:db8::1": nibbles} {
		if got := Reverse(name); got != want || OfReverse(got) != name {
			t.Errorf("Reverse(%q) = %q, and back %q", name, got, OfReverse(got))
		}
	}
	if got := Reverse("www.example.com"); got != "www.example.com" {
		t.Errorf("a host name becomes %q", got)
	}
	for _, name := range []string{
		"www.example.com", "in-addr.arpa", "2.0.192.in-addr.arpa", "01.2.0.192.in-addr.arpa", "256.2.0.192.in-addr.arpa",
		"x.1.2.0.192.in-addr.arpa", "0.0.0.0.in-addr.arpa", "1.2.0.192.in-addr.arpa.example.com", nibbles[2:], "x." + nibbles,
		"10" + nibbles[3:], "g" + nibbles[1:], strings.Repeat("0.", 32) + "ip6.arpa", "a-" + nibbles[2:],
		Reverse("64:ff9b::")[:63] + ".in-addr.arpa",
	} {
		if got := OfReverse(name); got != "" {
			t.Errorf("OfReverse(%q) = %q", name, got)
		}
	}
}

// FuzzAddress: an address has one form, one key and one reverse name, and no
// other name has them.
func FuzzAddress(f *testing.F) {
	for _, name := range []string{"192.0.2.1", "::ffff:192.0.2.1", "[2001:DB8::1]", "1.2.0.192.in-addr.arpa", "fe80::1%eth0", "__1", "_:", "::", "64:ff9b::1.2.3.4"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if addr := OfReverse(name); addr != "" && Reverse(addr) != name {
			t.Fatalf("%q is the reverse name of %q, whose is %q", name, addr, Reverse(addr))
		}
		if back := OfKey(name); back != name && Key(back) != name {
			t.Fatalf("%q is the key of %q, whose is %q", name, back, Key(back))
		}
		host, err := NormalizeAny(name)
		if err != nil || !IsAddress(host) {
			return
		}
		if again, err := NormalizeAny(host); again != host || err != nil {
			t.Fatalf("%q is %q, and that %q, %v", name, host, again, err)
		}
		if OfKey(Key(host)) != host || OfReverse(Reverse(host)) != host || strings.ContainsRune(Key(host), ':') {
			t.Fatalf("%q: key %q, reverse name %q", host, Key(host), Reverse(host))
		}
		if h, err := Normalize(Key(host)); err == nil {
			t.Fatalf("the key of %q is that of the host %q", host, h)
		}
	})
}
