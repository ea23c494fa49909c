package hosts

import "testing"

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
