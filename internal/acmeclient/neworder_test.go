package acmeclient

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// Orders with replaces are signed with every kind of account key, also when the
// CA refuses nonces.
func TestNewOrderReplaces(t *testing.T) {
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string]crypto.Signer{"P-256": newKey(t), "P-384": p384, "P-521": p521, "RSA": rsaKey} {
		t.Run(name, func(t *testing.T) {
			server, ca := renewalCA(t, true)
			leaf, client := issueFor(t, server, ca, key)
			server.BadNonceRate(0.5)
			// A certificate is replaced once.
			for _, want := range []string{CertID(leaf), ""} {
				_, without, err := NewOrder(t.Context(), client, acme.DomainIDs("a.example.com"), "", CertID(leaf))
				if err != nil || without != (want == "") {
					t.Fatalf("without: %v, %v\n%v", without, err, server)
				}
				orders := server.Orders()
				if last := orders[len(orders)-1]; last.Replaces != want {
					t.Errorf("the order replaces %q, want %q", last.Replaces, want)
				}
			}
			// An order that replaces nothing.
			if _, without, err := NewOrder(t.Context(), client, acme.DomainIDs("a.example.com"), "", ""); err != nil || without {
				t.Error(without, err)
			}
		})
	}
}

// A CA without renewal information never sees the field and gets no second
// request because of it.
func TestReplacesIsNotSentToACAWithoutRenewalInfo(t *testing.T) {
	server, ca := renewalCA(t, false)
	leaf, client := issueFor(t, server, ca, newKey(t))
	before := server.Count(acmetest.NewOrder)
	server.Status(acmetest.Match{Endpoint: acmetest.NewOrder, Count: 1}, 400, nil, acmetest.Problem{Type: "malformed"})
	for i, failed := range []bool{true, false} {
		_, without, err := NewOrder(t.Context(), client, acme.DomainIDs("a.example.com"), "", CertID(leaf))
		if (err != nil) != failed || without || server.Count(acmetest.NewOrder)-before != i+1 {
			t.Errorf("order %d: without %v, %v\n%v", i, without, err, server)
		}
	}
	for _, o := range server.Orders() {
		if o.Replaces != "" {
			t.Errorf("an order replaces %q", o.Replaces)
		}
	}
}

// orderAnswer is a CA's response to orders with replaces.
type orderAnswer struct {
	status     int // 0: drops the connection
	problem    string
	retryAfter string
	sub        string // host of a subproblem
	times      int    // 0: always
	always     bool   // to other orders, too
	early      bool   // before it acts: it makes no order
}

// give makes the CA answer so, after it has acted on the order if the answer is
// not early.
func (a orderAnswer) give(server *acmetest.Server) {
	if a.early {
		m := acmetest.Match{Endpoint: acmetest.NewOrder, Count: a.times}
		server.Status(m, a.status, http.Header{"Retry-After": {a.retryAfter}}, acmetest.Problem{Type: a.problem})
		return
	}
	var given atomic.Int32
	server.Edit(at(acmetest.NewOrder), func(r *acmetest.Reply) {
		if !a.always && !strings.Contains(string(r.Payload), `"replaces"`) || a.times > 0 && int(given.Add(1)) > a.times {
			return
		}
		problem := acmetest.Problem{Type: a.problem, Status: a.status, Detail: "the test wants it"}
		if a.sub != "" {
			problem.Subproblems = []acmetest.Subproblem{{Type: "malformed", Host: a.sub}}
		}
		r.SetProblem(problem)
		if a.problem == "" {
			r.Body = []byte("<html>no</html>")
		}
		if a.retryAfter != "" {
			r.Header.Set("Retry-After", a.retryAfter)
		}
		r.Drop = a.status == 0
	})
}

func TestWhenAnOrderIsMadeWithoutReplaces(t *testing.T) {
	const kept, dropped, failed = "an order that replaces", "an order without", "an error"
	tests := []struct {
		name   string
		answer orderAnswer
		want   string
		sent   int // orders
	}{
		{"500 once", orderAnswer{status: 500, problem: "serverInternal", times: 1, early: true}, kept, 2},
		{"503 once", orderAnswer{status: 503, retryAfter: "2", times: 1, early: true}, kept, 2},
		{"500 once, for an order that was made", orderAnswer{status: 500, times: 1}, dropped, 3}, // then alreadyReplaced
		{"500 always", orderAnswer{status: 500, problem: "serverInternal"}, dropped, 3},
		{"500 without a problem", orderAnswer{status: 500}, dropped, 3},
		{"501", orderAnswer{status: 501, problem: "about:blank"}, dropped, 3},
		{"503 that asks for seconds", orderAnswer{status: 503, retryAfter: "1"}, dropped, 3},
		{"503 that asks for an hour", orderAnswer{status: 503, retryAfter: "3600"}, failed, 1},
		{"500 for every order", orderAnswer{status: 500, always: true}, failed, 4},
		{"500 as a rate limit", orderAnswer{status: 500, problem: "rateLimited"}, failed, 4},

		{"alreadyReplaced", orderAnswer{status: 409, problem: "alreadyReplaced"}, dropped, 2},
		{"alreadyReplaced that asks to wait", orderAnswer{status: 409, problem: "alreadyReplaced", retryAfter: "60"}, dropped, 2},
		{"another account's", orderAnswer{status: 403, problem: "unauthorized"}, dropped, 2},
		{"malformed", orderAnswer{status: 400, problem: "malformed"}, dropped, 2},
		{"malformed for every order", orderAnswer{status: 400, problem: "malformed", always: true}, failed, 2},
		{"unknown to the CA", orderAnswer{status: 404, problem: "malformed"}, dropped, 2},
		{"a type that nobody knows", orderAnswer{status: 400, problem: "urn:example:strange"}, dropped, 2},
		{"no problem", orderAnswer{status: 400}, dropped, 2},
		{"405", orderAnswer{status: 405}, dropped, 2},
		{"422", orderAnswer{status: 422, problem: "serverInternal"}, dropped, 2},

		{"429", orderAnswer{status: 429}, failed, 2},
		{"rateLimited", orderAnswer{status: 400, problem: "rateLimited"}, failed, 1},
		{"403 that asks to wait", orderAnswer{status: 403, retryAfter: "60"}, failed, 1},
		{"401", orderAnswer{status: 401, problem: "unauthorized"}, failed, 1},
		{"408", orderAnswer{status: 408}, failed, 1},
		{"accountDoesNotExist", orderAnswer{status: 400, problem: "accountDoesNotExist"}, failed, 1},
		{"userActionRequired", orderAnswer{status: 403, problem: "userActionRequired"}, failed, 1},
		{"externalAccountRequired", orderAnswer{status: 403, problem: "externalAccountRequired"}, failed, 1},
		{"rejectedIdentifier", orderAnswer{status: 400, problem: "rejectedIdentifier"}, failed, 1},
		{"rejectedIdentifier, in another case", orderAnswer{status: 403, problem: "urn:acme:error:RejectedIdentifier"}, failed, 1},
		{"unsupportedIdentifier", orderAnswer{status: 400, problem: "unsupportedIdentifier"}, failed, 1},
		{"malformed, one identifier", orderAnswer{status: 400, problem: "malformed", sub: "a.example.com"}, failed, 1},
		{"invalidProfile", orderAnswer{status: 400, problem: "invalidProfile"}, failed, 1},
		{"badNonce", orderAnswer{status: 400, problem: "badNonce"}, failed, 1 + maxNonceRetries},
		{"badNonce once", orderAnswer{status: 400, problem: "badNonce", times: 1}, dropped, 3}, // refused with alreadyReplaced
		{"a redirect", orderAnswer{status: 302}, failed, 1},
		{"no reply", orderAnswer{}, failed, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server, ca := renewalCA(t, true)
				leaf, client := issueFor(t, server, ca, newKey(t))
				time.Sleep(2 * recentTime) // the account is known
				before := server.Count(acmetest.NewOrder)
				tt.answer.give(server)
				order, without, err := NewOrder(t.Context(), client, acme.DomainIDs("a.example.com"), "", CertID(leaf))
				got := failed
				if err == nil {
					for _, o := range server.Orders() {
						if o.URL == order.URI && o.Replaces != "" {
							got = kept
						} else if o.URL == order.URI {
							got = dropped
						}
					}
				}
				sent := server.Count(acmetest.NewOrder) - before
				if got != tt.want || sent != tt.sent || got == dropped && !without || got == kept && without {
					t.Errorf("got %s (%v), without %v, after %d orders; want %s after %d\n%v", got, err, without, sent, tt.want, tt.sent, server)
				}
				// At most one extra order was created.
				if n := len(server.Orders()); got != failed && n > 3 {
					t.Errorf("%d orders at the CA", n)
				}
			})
		})
	}
}

// If the user wants no retries, the first 5xx is final.
func TestOrderWithoutReplacesIfTheUserWantsNoRetries(t *testing.T) {
	server, _ := renewalCA(t, true)
	ca := New(Config{DirectoryURL: server.URL, HTTPClient: server.Client(),
		RetryBackoff: func(int, *http.Request, *http.Response) time.Duration { return -1 }})
	leaf, client := issueFor(t, server, ca, newKey(t))
	orderAnswer{status: 500}.give(server)
	before := server.Count(acmetest.NewOrder)
	_, without, err := NewOrder(t.Context(), client, acme.DomainIDs("a.example.com"), "", CertID(leaf))
	if n := server.Count(acmetest.NewOrder) - before; err != nil || !without || n != 2 {
		t.Errorf("without %v, %v after %d orders", without, err, n)
	}
}

// An attempt that has ended places no second order.
func TestNoOrderWithoutReplacesAfterTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, ca := renewalCA(t, true)
		leaf, client := issueFor(t, server, ca, newKey(t))
		before := server.Count(acmetest.NewOrder)
		ctx, cancel := context.WithTimeout(t.Context(), retryStep/2)
		defer cancel()
		orderAnswer{status: 500}.give(server)
		_, without, err := NewOrder(ctx, client, acme.DomainIDs("a.example.com"), "", CertID(leaf))
		if n := server.Count(acmetest.NewOrder) - before; err == nil || without || n != 1 {
			t.Errorf("without %v, %v after %d orders", without, err, n)
		}
	})
}

func TestInvalidOrderAsARefusalOfReplaces(t *testing.T) {
	for kind, want := range map[string]bool{"alreadyReplaced": true, "unauthorized": false, "": false} {
		t.Run(kind, func(t *testing.T) {
			server, ca := renewalCA(t, true)
			leaf, client := issueFor(t, server, ca, newKey(t))
			server.Edit(at(acmetest.NewOrder), func(r *acmetest.Reply) {
				r.EditObject(func(order map[string]any) {
					order["status"] = "invalid"
					if kind != "" {
						order["error"] = map[string]any{"type": "urn:ietf:params:acme:error:" + kind}
					}
				})
			})
			before := server.Count(acmetest.NewOrder)
			order, without, err := NewOrder(t.Context(), client, acme.DomainIDs("a.example.com"), "", CertID(leaf))
			if n := server.Count(acmetest.NewOrder) - before; err != nil || order.Status != acme.StatusInvalid || without != want || (n == 2) != want {
				t.Errorf("order %+v, without %v, %v after %d orders", order, without, err, n)
			}
		})
	}
}
