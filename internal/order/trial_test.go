package order

import (
	"crypto/tls"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
)

// One order has several names, each of which is validated by itself. Those that
// fail are named, all of them at once, so that the next order can do without.
func TestOrderSaysWhichOfItsNamesFail(t *testing.T) {
	names := []string{"a.example.com", "b.example.com", "c.example.com", "d.example.com"}
	for _, test := range []struct {
		name    string
		moved   []string
		blamed  []string
		refused []string // by the CA's policy
	}{
		{name: "none", moved: nil},
		{name: "some", moved: names[:2], blamed: names[:2]},
		{name: "all", moved: names},
		{name: "the CA rejects some", refused: names[2:], blamed: names[2:]},
	} {
		t.Run(test.name, func(t *testing.T) {
			at(t, func(t *testing.T, s *site) {
				for _, name := range names {
					target := acmetest.Target{TLSConfig: &tls.Config{
						NextProtos: []string{acme.ALPNProto},
						GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
							return s.answers.Certificate(hello.ServerName), nil
						},
					}}
					if slices.Contains(test.moved, name) {
						target = acmetest.Target{}
					}
					s.ca.Resolve(name, target)
				}
				for _, name := range test.refused {
					s.ca.RejectName(name)
				}
				req := s.request()
				req.Names = names
				failed := make(map[string]bool)
				req.Event = func(e audit.Event) {
					if e.Kind == audit.ChallengeFailed {
						failed[e.Host] = true
					}
				}
				res, err := s.run(req)
				if len(test.moved) == 0 && len(test.refused) == 0 {
					if err != nil || len(res.Leaf.DNSNames) != len(names) || s.orders() != 1 {
						t.Fatalf("%v, after %d orders", err, s.orders())
					}
					return
				}
				if err == nil {
					t.Fatal("there is a certificate")
				}
				var blamed []string
				if e, ok := errors.AsType[*NamesError](err); ok {
					blamed = slices.Sorted(maps.Keys(e.Failed))
					for name, cause := range e.Failed {
						if _, ok := errors.AsType[*acme.Error](cause); !ok {
							t.Errorf("the failure of %s lacks the CA's reason: %v", name, cause)
						}
					}
				}
				if !slices.Equal(blamed, test.blamed) {
					t.Errorf("%q are blamed, want %q: %v", blamed, test.blamed, err)
				}
				if got := slices.Sorted(maps.Keys(failed)); !slices.Equal(got, test.moved) {
					t.Errorf("events about %q, want %q", got, test.moved)
				}
				for _, name := range test.moved {
					if !strings.Contains(err.Error(), name) && len(test.moved) < 3 { // the text has an end
						t.Errorf("the error does not name %s: %v", name, err)
					}
				}
			})
		})
	}
}
