package hosts

import (
	"context"
	"crypto/tls"
	"errors"
	"strings"
	"testing"

	"golang.org/x/crypto/acme/autocert"
)

func TestNormalize(t *testing.T) {
	label63 := strings.Repeat("a", 63)
	long253 := strings.Repeat(label63+".", 3) + strings.Repeat("b", 57) + ".com"
	tests := []struct {
		name, in string
		want     string // the normal form; empty if it is refused
		differs  string // why autocert does something else
	}{
		{"plain", "example.com", "example.com", ""},
		{"digits", "1.example.com", "1.example.com", ""},
		{"inner hyphen", "a-b.example.com", "a-b.example.com", ""},
		{"upper case", "Example.COM", "example.com", ""},
		{"trailing dot", "example.com.", "example.com", ""},
		{"upper case and trailing dot", "EXAMPLE.com.", "example.com", ""},
		{"IDN in Unicode", "bücher.example", "xn--bcher-kva.example", ""},
		{"IDN in Unicode, upper case", "BÜCHER.example", "xn--bcher-kva.example", ""},
		{"IDN, decomposed", "bu\u0308cher.example", "xn--bcher-kva.example", ""},
		{"IDN as A-label", "xn--bcher-kva.example", "xn--bcher-kva.example", ""},
		{"IDN as A-label, upper case", "XN--BCHER-KVA.example", "xn--bcher-kva.example", ""},
		{"Greek final sigma stays", "σας.example", "xn--mxa8ab.example", ""},
		{"Greek capitals have no final sigma", "ΣΑΣ.example", "xn--mxa9ab.example", ""},
		{"sharp s stays", "straße.example", "xn--strae-oqa.example", ""},
		{"Cyrillic", "пример.example", "xn--e1afmkfd.example", ""},
		{"right to left", "דוגמה.example", "xn--6dbbec0c.example", ""},
		{"ideographic full stop", "例え。example", "xn--r8jz45g.example", "it looks for a dot before the mapping makes one"},
		{"fullwidth letters", "ｅｘａｍｐｌｅ.com", "example.com", ""},
		{"soft hyphen vanishes", "exam\u00adple.com", "example.com", ""},
		{"63 bytes in a label", label63 + ".com", label63 + ".com", ""},
		{"253 bytes", long253, long253, ""},
		{"numbers but for the last label", "1.2.3.com", "1.2.3.com", ""},
		{"last label begins with a digit", "example.1st", "example.1st", ""},

		{"empty", "", "", ""},
		{"dot", ".", "", ""},
		{"single label", "localhost", "", ""},
		{"single label and dot", "localhost.", "", ""},
		{"leading dot", ".example.com", "", "it is no host name"},
		{"empty label", "a..example.com", "", "it is no host name"},
		{"underscore", "_acme-challenge.example.com", "", ""},
		{"wildcard", "*.example.com", "", ""},
		{"leading hyphen", "-a.example.com", "", ""},
		{"trailing hyphen", "a-.example.com", "", ""},
		{"hyphens in third and fourth place", "ab--cd.example.com", "", ""},
		{"broken A-label", "xn--a.example.com", "", ""},
		{"A-label of nothing", "xn--.example.com", "", "it is no host name"},
		{"space", "exa mple.com", "", ""},
		{"port", "example.com:443", "", ""},
		{"path", "../example.com", "", ""},
		{"control byte", "exam\x00ple.com", "", ""},
		{"line break", "example.com\nexample.org", "", ""},
		{"DEL", "example.com\x7f", "", ""},
		{"mixed directions", "דaוגמה.example", "", ""},
		{"maps to mixed directions", "aℵb.example", "", "what it maps to is no A-label that IDNA accepts"},
		{"IPv6 address", "2001:db8::1", "", ""},
		{"IPv6 address in brackets", "[2001:db8::1]", "", ""},
		{"64 bytes in a label", label63 + "a.com", "", "it is no host name"},
		{"254 bytes", "b" + long253, "", "it is no host name"},

		{"two trailing dots", "example.com..", "", "it asks for example.com. with a dot"},
		{"two trailing dots, the second in fullwidth", "example.com.。", "", "it is no host name"},
		{"two trailing dots, the first in fullwidth", "example.com。.", "", "it is no host name"},
		{"two trailing dots in fullwidth", "example.com。。", "", "it is no host name"},
		{"IPv4 address", "192.0.2.1", "", "no CA certifies it by a DNS name"},
		{"IPv4 address and dot", "192.0.2.1.", "", "no CA certifies it by a DNS name"},
		{"IPv4 address in fullwidth digits", "１９２.0.2.1", "", "no CA certifies it by a DNS name"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := Normalize(test.in)
			if got != test.want || (err == nil) != (test.want != "") {
				t.Errorf("Normalize(%q) = %q, %v, want %q", test.in, got, err, test.want)
			}
			if err != nil {
				if _, ok := err.(*NameError); !ok || strings.ContainsAny(err.Error(), "\x00\n\x7f") {
					t.Errorf("error %q, want one line of a *NameError", err)
				}
			}
			theirs := strings.TrimSuffix(autocertAsks(test.in), ".") // as it does after that
			if (theirs == test.want) != (test.differs == "") {
				t.Errorf("autocert makes %q of %q, Normalize %q; the table's reason to differ: %q", theirs, test.in, test.want, test.differs)
			}
		})
	}
}

// U+FFFD, which stands for what is not UTF-8, is no letter of any name. Of autocert
// that holds with the tables of Unicode that x/net has for Go 1.27.
func TestNormalizeRefusesWhatIsNotUTF8(t *testing.T) {
	for _, name := range []string{"exam\xffple.com", "exam\ufffdple.com", "\xff.example.com"} {
		if got, err := Normalize(name); got != "" || err == nil {
			t.Errorf("Normalize(%q) = %q, %v, want an error", name, got, err)
		}
	}
}

// A ClientHello may carry a name of 64 KB. One that is too long is refused by
// its length: mapping it would take seconds.
func TestLongNamesAreNotMapped(t *testing.T) {
	var distinct strings.Builder
	for r := rune(0x4e00); r < 0x9fa5; r++ {
		distinct.WriteRune(r)
	}
	cjk := distinct.String()[:59_001]
	for name, in := range map[string]string{
		"one label":                    cjk + ".com",
		"label just too long":          cjk[:maxMappedLabel+3] + ".com",
		"dots that are no ASCII":       "a。" + cjk[:maxMappedLabel+3] + "。com",
		"labels that fit, but many":    strings.Repeat(cjk[:30]+".", 2000) + "com",
		"upper case":                   strings.Repeat("A.", 30_000) + "com",
		"A-labels":                     strings.Repeat("xn--bcher-kva.", 4000) + "com",
		"an A-label":                   "xn--" + strings.Repeat("a", 30_000) + "-" + strings.Repeat("b", 29_000) + ".com",
		"combining marks":              "a" + strings.Repeat("\u0300\u0316", 14_000) + ".com",
		"letters that map to nothing":  strings.Repeat("\u00ad", 20_000) + "example.com",
		"dots alone, no ASCII":         strings.Repeat("。", 20_000),
		"just too many, that all fit ": strings.Repeat("é.", maxMapped/3) + "com.",
	} {
		_, err := Normalize(in)
		if err == nil || !strings.Contains(err.Error(), "too long") {
			t.Errorf("%s: %v, want an error that says too long", name, err)
		}
		if n := testing.AllocsPerRun(10, func() { Normalize(in) }); n > 10 {
			t.Errorf("%s: %v allocations, as if it were mapped", name, n)
		}
	}
}

// The limits refuse no name that could be valid.
func TestLongestNamesAreMapped(t *testing.T) {
	for name, in := range map[string]string{
		"letters of three bytes":             strings.Repeat("一", 55) + ".com",
		"letters of four bytes":              strings.Repeat("𠀀", 54) + ".com",
		"letters of four bytes, many labels": strings.Repeat("𠀀𠀀𠀀𠀀𠀀.", 15) + "com",
		"decomposed":                         strings.Repeat("\u1100\u1161\u11a8", 20) + ".com", // Hangul of three letters each
	} {
		if _, err := Normalize(in); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// autocertAsks returns the name that autocert passes to its policy for a server
// name, or "" if it refuses the name.
func autocertAsks(name string) (asked string) {
	m := autocert.Manager{HostPolicy: func(_ context.Context, host string) error {
		asked = host
		return errors.New("enough")
	}}
	m.GetCertificate(&tls.ClientHelloInfo{ServerName: name})
	return asked
}
