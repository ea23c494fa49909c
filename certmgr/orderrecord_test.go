package certmgr

import (
	"strings"
	"testing"
	"time"

	"github.com/nostall/nostall/internal/bundle"
	"github.com/nostall/nostall/internal/order"
)

// FuzzDecodeOrder: the entry of an order may hold anything. Decoding it never
// panics, no error quotes it, and what was decoded survives encoding and decoding
// again.
func FuzzDecodeOrder(f *testing.F) {
	now := time.Date(2026, time.November, 1, 0, 0, 0, 0, time.UTC)
	for alg := range bundle.Algorithm(bundle.Algorithms) {
		key, err := bundle.GenerateKey(bundle.DefaultKeyType(alg))
		if err != nil {
			f.Fatal(err)
		}
		u := order.Unfinished{
			URL:       "https://ca.example/order/1",
			Account:   "https://ca.example/account/1",
			Directory: "https://ca.example/directory",
			Created:   now.Add(-time.Hour),
			Expires:   now.Add(time.Hour),
		}
		finalized := u
		finalized.Key, finalized.Accepted, finalized.Unfit = key, true, now
		for _, u := range []order.Unfinished{u, finalized} {
			data, err := encodeOrder(newSubject(alg, "", "example.com"), &u, nil)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data, alg == bundle.RSA)
			f.Add(data[:len(data)/2], alg == bundle.RSA)
			f.Add([]byte(strings.Replace(string(data), `"version":1`, `"version":2`, 1)), alg == bundle.RSA)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte, rsa bool) {
		sub := newSubject(bundle.ECDSA, "", "example.com")
		if rsa {
			sub.alg = bundle.RSA
		}
		u, _, err := decodeOrder(sub, data, now)
		if err != nil {
			if text := err.Error(); strings.ContainsAny(text, "\n\r\x00") || len(text) > 150 {
				t.Fatalf("the error is %q", text)
			}
			return
		}
		written, err := encodeOrder(sub, u, nil)
		if err != nil {
			t.Skip(err) // a year of five digits
		}
		again, _, err := decodeOrder(sub, written, now)
		if err != nil {
			if len(written) > maxRecord {
				t.Skip("too large by now")
			}
			t.Fatalf("what was written cannot be read: %v\n%s", err, written)
		}
		if (again.Key == nil) != (u.Key == nil) || u.Key != nil && !bundle.EqualKeys(again.Key.Public(), u.Key.Public()) {
			t.Fatal("the key that was written is read as another one")
		}
		again.Key = u.Key
		if again.URL != u.URL || again.Account != u.Account || again.Directory != u.Directory || again.Stalls != u.Stalls ||
			!again.Created.Equal(u.Created) || !again.Expires.Equal(u.Expires) || !again.Unfit.Equal(u.Unfit) {
			t.Fatalf("%+v was written and %+v read", u, again)
		}
	})
}

// Only servers of the CA are sent what is signed by the account.
func TestOriginOfAnOrder(t *testing.T) {
	for order, want := range map[string]bool{
		"https://ca.example/order/1":           true,
		"https://ca.example:443/order/1":       false, // another text; costs one order
		"https://api.ca.example/order/1":       true,  // where accounts are
		"http://ca.example/order/1":            false,
		"https://ca.example@evil.example/":     false,
		"https://ca.example.evil.example/":     false,
		"https://evil.example/ca.example":      false,
		"//ca.example/order/1":                 false,
		"/order/1":                             false,
		"":                                     false,
		"https://ca.example/order/1\nHost: x":  false,
		"https://CA.example/../../etc/passwd?": false,
	} {
		if got := isOriginOf(order, "https://api.ca.example/account/1", "https://ca.example/directory"); got != want {
			t.Errorf("%q: %v", order, got)
		}
	}
}
