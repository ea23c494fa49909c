package certmgr_test

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/bundle"
	"github.com/nostall/nostall/internal/challenge"
)

// maxHeld is what one failure may hold, with all its causes.
const maxHeld = 16 << 10

// held returns how many bytes of text hang on v.
func held(v any) int {
	return heldBy(reflect.ValueOf(v), make(map[uintptr]bool))
}

func heldBy(v reflect.Value, seen map[uintptr]bool) int {
	n := 0
	switch v.Kind() {
	case reflect.String:
		return v.Len()
	case reflect.Interface:
		return heldBy(v.Elem(), seen)
	case reflect.Pointer:
		if v.IsNil() || seen[v.Pointer()] {
			return 0
		}
		seen[v.Pointer()] = true
		return heldBy(v.Elem(), seen)
	case reflect.Struct:
		for i := range v.NumField() {
			n += heldBy(v.Field(i), seen)
		}
	case reflect.Slice, reflect.Array:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return v.Len()
		}
		for i := range v.Len() {
			n += heldBy(v.Index(i), seen)
		}
	case reflect.Map:
		for it := v.MapRange(); it.Next(); {
			n += heldBy(it.Key(), seen) + heldBy(it.Value(), seen)
		}
	}
	return n
}

const longText = 40_000 // several of them fit into what is read of an answer

// hostileProblem is as long as it can be.
func hostileProblem() acmetest.Problem {
	long := strings.Repeat("é", longText/2)
	p := acmetest.Problem{Type: "urn:ietf:params:acme:error:rejectedIdentifier", Detail: long}
	for range 50 {
		p.Subproblems = append(p.Subproblems, acmetest.Subproblem{Type: "malformed", Detail: long[:1000]})
	}
	return p
}

func hostileHeader() http.Header {
	h := http.Header{"Retry-After": {"60"}, "X-Long": {strings.Repeat("x", 1<<20)}, "Server": {strings.Repeat("x", 1000)}}
	for range 10_000 {
		h.Add("Link", `<https://ca.example.net/terms>;rel="terms-of-service"`)
	}
	return h
}

// hostileCAs are the ways to send much with a failure.
func hostileCAs() map[string]func(ca *acmetest.Server) {
	long := strings.Repeat("x", longText)
	ways := map[string]func(ca *acmetest.Server){
		"failed challenges": func(ca *acmetest.Server) { ca.FailValidation("a.example.com", "", hostileProblem()) },
		"failed challenge, and the next order refused": func(ca *acmetest.Server) {
			ca.FailValidation("a.example.com", "", hostileProblem())
			ca.Status(acmetest.Match{Endpoint: acmetest.NewOrder, After: 1}, http.StatusForbidden, hostileHeader(), hostileProblem())
		},
		"no challenge of use": func(ca *acmetest.Server) {
			ca.Edit(acmetest.Match{Endpoint: acmetest.Authorization}, func(r *acmetest.Reply) {
				r.EditObject(func(o map[string]any) {
					o["challenges"] = slices.Repeat([]any{map[string]any{"type": long[:100], "url": r.URL}}, 600)
				})
			})
		},
		"long URLs": func(ca *acmetest.Server) {
			ca.Edit(acmetest.Match{Endpoint: acmetest.NewOrder}, func(r *acmetest.Reply) {
				r.EditObject(func(o map[string]any) {
					for i, u := range o["authorizations"].([]any) {
						o["authorizations"].([]any)[i] = fmt.Sprint(u, "?", long)
					}
				})
			})
			ca.Edit(acmetest.Match{Endpoint: acmetest.Authorization}, func(r *acmetest.Reply) {
				r.EditObject(func(o map[string]any) { o["status"] = "invalid" })
			})
		},
		"certificate that cannot be parsed": func(ca *acmetest.Server) {
			ca.EditChain("a.example.com", func([][]byte) [][]byte { return [][]byte{certificateWithURI("https://[" + long)} })
		},
		"certificate for another name": func(ca *acmetest.Server) {
			ca.EditCertificate("a.example.com", func(c *x509.Certificate) {
				c.DNSNames, c.Subject.CommonName = []string{"other.example.com"}, long
			})
		},
		"chain that does not fit": func(ca *acmetest.Server) {
			ca.EditChain("a.example.com", func(chain [][]byte) [][]byte {
				return append(chain[:1], signedByItself(&x509.Certificate{Subject: pkix.Name{CommonName: long}}))
			})
		},
	}
	for _, e := range []acmetest.Endpoint{
		acmetest.Directory, acmetest.NewNonce, acmetest.NewAccount, acmetest.NewOrder, acmetest.Order,
		acmetest.Authorization, acmetest.Challenge, acmetest.Finalize, acmetest.Certificate,
	} {
		for _, status := range []int{http.StatusForbidden, http.StatusTooManyRequests, http.StatusInternalServerError} {
			ways[fmt.Sprintf("%s answers %d", e, status)] = func(ca *acmetest.Server) {
				ca.Status(acmetest.Match{Endpoint: e}, status, hostileHeader(), hostileProblem())
			}
		}
		ways[fmt.Sprintf("%s is text", e)] = func(ca *acmetest.Server) {
			ca.Respond(acmetest.Match{Endpoint: e}, http.StatusBadRequest, hostileHeader(), long)
		}
		ways[fmt.Sprintf("%s has long fields", e)] = func(ca *acmetest.Server) {
			ca.Edit(acmetest.Match{Endpoint: e}, func(r *acmetest.Reply) { lengthen(r, long) })
		}
		ways[fmt.Sprintf("%s is invalid", e)] = func(ca *acmetest.Server) {
			ca.Edit(acmetest.Match{Endpoint: e}, func(r *acmetest.Reply) {
				r.EditObject(func(o map[string]any) {
					o["status"], o["error"] = "invalid", hostileProblem()
					o["challenges"] = slices.Repeat([]any{failedChallenge(challenge.TLSALPN01)}, 50)
				})
			})
		}
	}
	return ways
}

// certificateWithURI returns one that x509 does not parse, and quotes, if uri is none.
func certificateWithURI(uri string) []byte {
	names, err := asn1.Marshal([]asn1.RawValue{{Class: asn1.ClassContextSpecific, Tag: 6, Bytes: []byte(uri)}})
	if err != nil {
		panic(err)
	}
	return signedByItself(&x509.Certificate{ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: names}}})
}

func signedByItself(tmpl *x509.Certificate) []byte {
	key, err := bundle.GenerateKey(bundle.P256)
	if err != nil {
		panic(err)
	}
	tmpl.SerialNumber = big.NewInt(1)
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		panic(err)
	}
	return der
}

func failedChallenge(typ string) map[string]any {
	return map[string]any{"type": typ, "url": "https://ca.example.net/c", "status": "invalid",
		"error": acmetest.Problem{Type: "connection", Detail: strings.Repeat("x", 10_000)}}
}

// lengthen makes each text of an answer a long one that begins as it did. Lists stay as they are, and dates, without
// which nothing else is read.
func lengthen(r *acmetest.Reply, long string) {
	if r.Header.Get("Location") != "" {
		r.Header.Set("Location", r.Header.Get("Location")+long)
	}
	r.EditObject(func(o map[string]any) {
		for name, value := range o {
			if text, ok := value.(string); ok && name != "expires" {
				o[name] = text + long
			}
		}
	})
}

// Whatever a CA sends, little of it is kept for a host that fails: in the error, in
// events, in what holds hosts or the CA back, and for the next attempt.
func TestLittleIsKeptOfWhatACASends(t *testing.T) {
	for name, fault := range hostileCAs() {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.ca.Resolve("*", acmetest.Target{TLSConfig: w.m.TLSConfig(), HTTPHandler: w.m.HTTPHandler(nil)})
				fault(w.ca)
				check := func(what string, v any) {
					t.Helper()
					if n := held(v); n > maxHeld {
						t.Errorf("%s holds %d bytes", what, n)
					}
				}
				err := w.m.Obtain(t.Context(), "a.example.com")
				check("the error", err)
				snap := w.m.Snapshot()
				check("the cause of the CA's backoff", snap.CAFailure)
				for _, h := range snap.Hosts {
					check("the status of "+h.Host, h)
				}
				for _, e := range append(snap.RecentEvents, snap.RecentFailures...) {
					check("the event "+string(e.Kind), e)
				}
				for what, v := range certmgr.Kept(w.m) {
					check(what, v)
				}
				w.m.Close()
				for _, e := range w.events.of(audit.ChallengeFailed) {
					check("the event of a challenge", e)
				}
				for _, key := range []string{"a.example.com+failure", "acme_ca+failure"} {
					if data, err := w.cache.Get(t.Context(), key); err == nil {
						check("the entry "+key, data)
					}
				}
			})
		})
	}
}

// As the walk above could overlook something, the heap is asked too, with a margin
// that nothing else comes near: 40 refusals are 50 MB.
func TestHeapDoesNotGrowWithRefusals(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		var hosts []string
		for i := range 40 {
			hosts = append(hosts, fmt.Sprintf("www.example%d.com", i))
		}
		w.m.Hosts = certmgr.MustAllowlist(hosts...)
		w.ca.Status(acmetest.Match{Endpoint: acmetest.NewOrder}, http.StatusBadRequest, hostileHeader(),
			acmetest.Problem{Type: "rejectedIdentifier", Detail: strings.Repeat("x", 200_000)})
		before := heapInUse()
		var wg sync.WaitGroup
		for _, host := range hosts {
			wg.Go(func() { w.m.Obtain(t.Context(), host) })
		}
		wg.Wait()
		w.ca.ForgetRequests()
		if grown := int64(heapInUse()) - int64(before); grown > 20<<20 {
			t.Errorf("the heap grew by %d MB", grown>>20)
		}
		if n := len(w.events.of(audit.IssuanceFailed)); n != len(hosts) {
			t.Errorf("%d failures, want %d", n, len(hosts))
		}
	})
}
