package hosts

import "testing"

func TestWhatNoCACertifies(t *testing.T) {
	for host, want := range map[string]struct{ uncertifiable, private, recursive bool }{
		"example.com":               {},
		"www.example.co.uk":         {},
		"github.io":                 {}, // private section of the list: GitHub may have a certificate
		"user.github.io":            {},
		"example.1st":               {},
		"a.xn--p1ai":                {},
		"test.com":                  {},
		"nolocal.com":               {},
		"0xa.com":                   {},
		"example.123":               {uncertifiable: true},
		"0x7f.1":                    {uncertifiable: true},
		"1.2.3.0x4":                 {uncertifiable: true},
		"127.0.1.0xff":              {uncertifiable: true},
		"co.uk":                     {uncertifiable: true},
		"foo.ck":                    {uncertifiable: true},
		"wpad.invalid":              {uncertifiable: true},
		"www.localhost":             {uncertifiable: true},
		"abc.onion":                 {uncertifiable: true},
		"a.b.alt":                   {uncertifiable: true},
		"1.2.0.192.in-addr.arpa":    {uncertifiable: true},
		"in-addr.arpa":              {uncertifiable: true},
		"printer.local":             {private: true},
		"a.b.internal":              {private: true},
		"nas.home.arpa":             {private: true},
		"www.test":                  {private: true},
		"www.example":               {private: true},
		"router.lan":                {private: true},
		"mail.corp":                 {private: true},
		"www.www.www.example.com":   {recursive: true},
		"www.www.example.com":       {recursive: true},
		"a.www.www.b.c.example.com": {recursive: true},
		"www.example.com.com":       {recursive: true},
		"www.www.com":               {}, // three labels
		"com.com":                   {},
		"www.a.www.example.com":     {},
		"www.ww.example.com":        {},
		"example.example.com":       {},
		"1.1.1.example.com":         {recursive: true},
	} {
		if got := Uncertifiable(host); (got != "") != want.uncertifiable {
			t.Errorf("Uncertifiable(%q) = %q", host, got)
		}
		if got := Private(host); (got != "") != want.private {
			t.Errorf("Private(%q) = %q", host, got)
		}
		if got := IsRecursive(host); got != want.recursive {
			t.Errorf("IsRecursive(%q) = %v", host, got)
		}
	}
}
