package cases

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// H06 (hostile review): the error, the snapshot and events keep only a little
// of what a CA sends with a refusal: up to 10,000 hosts may have failed.
func TestRefusalsKeepLittleOfTheReply(t *testing.T) {
	long := strings.Repeat("x", 200_000)
	for name, tt := range map[string]struct {
		header  http.Header
		problem acmetest.Problem
	}{
		"detail":      {nil, acmetest.Problem{Type: "rejectedIdentifier", Detail: long}},
		"type":        {nil, acmetest.Problem{Type: long, Detail: "no"}},
		"header":      {http.Header{"X-Long": {long}}, acmetest.Problem{Type: "rejectedIdentifier", Detail: "no"}},
		"link header": {http.Header{"Link": {"<https://ca.example/" + long + `>;rel="help"`}}, acmetest.Problem{Type: "rejectedIdentifier", Detail: "no"}},
		"subproblems": {nil, acmetest.Problem{Type: "rejectedIdentifier", Detail: "no",
			Subproblems: []acmetest.Subproblem{{Type: "malformed", Detail: long}}}},
	} {
		table.Run(t, "H06/"+name, func(t *T) {
			bubble(t, func(t *T, w *world) {
				w.ca.Status(acmetest.Match{Endpoint: acmetest.NewOrder}, http.StatusBadRequest, tt.header, tt.problem)
				err := w.m.Obtain(t.Context(), host)
				if _, ok := errors.AsType[*acme.Error](err); !ok {
					t.Errorf("%.300v has no *acme.Error", err)
				}
				kept := map[string]error{"the error": err}
				for _, h := range w.m.Snapshot().Hosts {
					kept["the snapshot"] = h.Failure
				}
				w.m.Close()
				for _, e := range w.events.all() {
					kept["event "+string(e.Kind)] = e.Err
				}
				for where, err := range kept {
					if n := weight(err); n > 64_000 {
						t.Errorf("%s holds %d bytes of the reply", where, n)
					}
				}
			})
		})
	}
}

// weight returns how many bytes an error keeps of a CA's replies.
func weight(err error) int {
	switch e := err.(type) {
	case nil:
		return 0
	case *acme.Error:
		n := len(e.Detail) + len(e.ProblemType) + len(e.Instance)
		for name, values := range e.Header {
			n += len(name) + len(strings.Join(values, ""))
		}
		for _, s := range e.Subproblems {
			n += len(s.Detail) + len(s.Type) + len(s.Instance)
		}
		return n
	case interface{ Unwrap() error }:
		return len(err.Error()) + weight(e.Unwrap())
	case interface{ Unwrap() []error }:
		n := len(err.Error())
		for _, cause := range e.Unwrap() {
			n += weight(cause)
		}
		return n
	}
	return len(err.Error())
}

// H16 (hostile review): a renewed certificate that clients would or should
// refuse does not replace a good one.
func TestBadCertificateTakesNoGoodOnesPlace(t *testing.T) {
	leaf := func(f func(c *x509.Certificate)) func(*acmetest.Server) {
		return func(ca *acmetest.Server) { ca.EditCertificate(host, f) }
	}
	chain := func(f func([][]byte) [][]byte) func(*acmetest.Server) {
		return func(ca *acmetest.Server) { ca.EditChain(host, f) }
	}
	for name, fault := range map[string]func(*acmetest.Server){
		"no serverAuth": leaf(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }),
		"CA as leaf": leaf(func(c *x509.Certificate) {
			c.IsCA, c.BasicConstraintsValid = true, true
			c.KeyUsage |= x509.KeyUsageCertSign
		}),
		"other name": func(ca *acmetest.Server) { ca.WrongName(host) },
		"other key":  func(ca *acmetest.Server) { ca.WrongKey(host) },
		"name in CN": leaf(func(c *x509.Certificate) { c.DNSNames, c.Subject = nil, pkix.Name{CommonName: host} }),
		"expired": leaf(func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = time.Now().Add(-48*time.Hour), time.Now().Add(-time.Hour)
		}),
		"critical ext":   leaf(unknownExtension),
		"no issuer":      chain(func(c [][]byte) [][]byte { return c[:1] }),
		"foreign issuer": func(ca *acmetest.Server) { ca.WrongChain(host) },
		"one PEM block":  chain(func(c [][]byte) [][]byte { return [][]byte{append(append([]byte(nil), c[0]...), c[1]...)} }),
		"empty":          chain(func([][]byte) [][]byte { return nil }),
		"garbage":        chain(func([][]byte) [][]byte { return [][]byte{[]byte("garbage")} }),
		"200 issuers": chain(func(c [][]byte) [][]byte {
			for range 200 {
				c = append(c, c[1])
			}
			return c
		}),
	} {
		table.Run(t, "H16/"+name, func(t *T) {
			bubble(t, func(t *T, w *world) {
				mustObtain(t, w, host)
				good, err := w.get(host)
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Hour)
				fault(w.ca)
				renewed := w.m.Renew(t.Context(), host)
				served, err := w.get(host)
				if err != nil {
					t.Fatalf("the good certificate is out of service: %v", err)
				}
				if renewed == nil || !served.Leaf.Equal(good.Leaf) {
					t.Errorf("it was accepted; a client says: %v", verify(t, served, w.ca.Roots()))
				}
			})
		})
	}
}

func unknownExtension(c *x509.Certificate) {
	c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: []int{1, 2, 3, 4}, Critical: true, Value: []byte{5, 0}})
}

// H20 (hostile review): signed requests are sent only over TLS, to any URL of
// the directory, and no redirect leaves https.
func TestRequestsStayOnHTTPS(t *testing.T) {
	dir := func(base string) string {
		d, _ := json.Marshal(map[string]string{"newNonce": base + "/nonce", "newAccount": base + "/account",
			"newOrder": base + "/order", "revokeCert": base + "/revoke", "keyChange": base + "/key"})
		return string(d)
	}
	for name, answer := range map[string]http.HandlerFunc{
		"URLs of plain http": func(rw http.ResponseWriter, r *http.Request) { io.WriteString(rw, dir("http://192.0.2.1")) },
		"redirect to plain http": func(rw http.ResponseWriter, r *http.Request) {
			http.Redirect(rw, r, "http://192.0.2.1/directory", http.StatusFound)
		},
		"redirect to a file": func(rw http.ResponseWriter, r *http.Request) {
			http.Redirect(rw, r, "file:///etc/passwd", http.StatusFound)
		},
	} {
		table.Run(t, "H20/"+name, func(t *T) {
			bubble(t, func(t *T, w *world) {
				var mu sync.Mutex
				var plain []string
				through(w, func(req *http.Request) *http.Response {
					rec := httptest.NewRecorder()
					rec.Header().Set("Replay-Nonce", "nonce")
					switch {
					case req.URL.Scheme != "https":
						mu.Lock()
						plain = append(plain, req.Method+" "+req.URL.String())
						mu.Unlock()
						io.WriteString(rec, dir("http://192.0.2.1"))
					case strings.HasSuffix(req.URL.Path, "/directory"):
						answer(rec, req)
					default:
						rec.WriteHeader(http.StatusNotFound)
					}
					return rec.Result()
				})
				if err := w.m.Obtain(t.Context(), host); err == nil {
					t.Error("issued")
				}
				mu.Lock()
				defer mu.Unlock()
				if len(plain) > 0 {
					t.Errorf("requests without TLS: %q", plain)
				}
			})
		})
	}
}

// drip is a body that never ends.
type drip struct {
	ctx   context.Context
	every time.Duration
	read  *atomic.Int64
}

func (d drip) Read(p []byte) (int, error) {
	n := len(p)
	if d.every > 0 {
		n = 1
		select {
		case <-time.After(d.every):
		case <-d.ctx.Done():
			return 0, d.ctx.Err()
		}
	}
	for i := range n {
		p[i] = ' '
	}
	d.read.Add(int64(n))
	return n, nil
}

func (drip) Close() error { return nil }

// Tried by a hostile review, and held: endless replies of a CA cost only
// bounded memory and time.
func TestEndlessRepliesAreCutShort(t *testing.T) {
	for name, every := range map[string]time.Duration{"fast": 0, "drip": 100 * time.Millisecond} {
		table.Run(t, "held/endless reply, "+name, func(t *T) {
			bubble(t, func(t *T, w *world) {
				var read atomic.Int64
				through(w, func(req *http.Request) *http.Response {
					return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, ContentLength: -1,
						Body: drip{req.Context(), every, &read}}
				})
				begin := time.Now()
				if err := w.m.Obtain(t.Context(), host); err == nil {
					t.Error("issued")
				}
				if n, d := read.Load(), time.Since(begin); d > 4*time.Minute || n > 16<<20 {
					t.Errorf("%d bytes in %v", n, d)
				}
			})
		})
	}
	table.Run(t, "held/redirect loop", func(t *T) {
		bubble(t, func(t *T, w *world) {
			var n atomic.Int32
			through(w, func(req *http.Request) *http.Response {
				rec := httptest.NewRecorder()
				http.Redirect(rec, req, fmt.Sprint("/", n.Add(1)), http.StatusFound)
				return rec.Result()
			})
			if err := w.m.Obtain(t.Context(), host); err == nil || n.Load() > 50 {
				t.Errorf("%v after %d requests", err, n.Load())
			}
		})
	})
}
