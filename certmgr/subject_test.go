package certmgr

import (
	"slices"
	"testing"

	"github.com/nostall/nostall/internal/bundle"
	"github.com/nostall/nostall/internal/challenge"
)

// A subject is the same in whatever order its names are given, and says them.
func TestSubjectOfNames(t *testing.T) {
	for _, test := range []struct {
		names       []string
		identifiers string
	}{
		{[]string{"www.example.com"}, "dns:www.example.com"},
		{[]string{"192.0.2.1"}, "ip:192.0.2.1"},
		{[]string{"2001:db8::1"}, "ip:2001:db8::1"},
		{[]string{"b.example.com", "2001:db8::1", "a.example.com"}, "dns:a.example.com,dns:b.example.com,ip:2001:db8::1"},
	} {
		sub := newSubject(bundle.RSA, "ca", test.names...)
		slices.Reverse(test.names)
		if sub.identifiers != test.identifiers || sub != newSubject(bundle.RSA, "ca", test.names...) {
			t.Errorf("%q: identifiers %q", test.names, sub.identifiers)
		}
		names := sub.names()
		if sub.host() != names[0] {
			t.Errorf("host %q, first name %q", sub.host(), names[0])
		}
		slices.Sort(names)
		slices.Sort(test.names)
		if !slices.Equal(names, test.names) {
			t.Errorf("names %q, want %q", names, test.names)
		}
	}
}

// Everything that the Cache has of an address has a key without colons, and none
// of them can be that of a host. What reports name is the address again.
func TestKeysOfAddresses(t *testing.T) {
	for addr, key := range map[string]string{"192.0.2.1": "192.0.2.1", "2001:db8::1": "2001_db8__1", "::1": "__1"} {
		ecdsa, rsa := newSubject(bundle.ECDSA, "ca", addr), newSubject(bundle.RSA, "ca", addr)
		for got, want := range map[string]string{
			ecdsa.cacheKey():                       key,
			rsa.cacheKey():                         key + "+rsa",
			orderCacheKey(ecdsa):                   key + "+order",
			orderCacheKey(rsa):                     key + "+rsa+order",
			failureKey{addr, scopeHost}.cacheKey(): key + "+failure",
			failureKey{addr, scopeRSA}.cacheKey():  key + "+rsa+failure",
			challenge.TLSALPN01Key(addr):           key + "+token",
		} {
			if got != want || hostOfKey(got) != addr {
				t.Errorf("%s: the key is %q, want %q; its host is %q", addr, got, want, hostOfKey(got))
			}
		}
	}
	if host := hostOfKey("LoqXcYV8_5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0+http-01"); host != "" {
		t.Errorf("a token is of host %q", host)
	}
}
