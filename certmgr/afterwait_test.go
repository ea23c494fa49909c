package certmgr_test

import (
	"context"
	"crypto"
	"crypto/tls"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/internal/bundle"
)

// What ends while a handshake waits is not served after the wait, whatever it waits
// for: its host leaves the list or is refused, the certificate ends, the Manager is closed.
func TestNothingIsServedThatEndedDuringTheWait(t *testing.T) {
	t.Parallel()
	const host = "a.example.com"
	refused := errors.New("not a customer")
	slowReads := func(w *world) { w.cache.slowFor(host, 2*time.Second) }
	stored := func(w *world) { w.keep(host, entryFor(host, bundle.ECDSA, undue)); slowReads(w) }
	slowCA := func(w *world) { w.ca.Delay(acmetest.Match{Endpoint: acmetest.NewOrder}, 3*time.Second) }
	remove := func(w *world) { w.m.Hosts.Remove(host) }
	visit := func(w *world) error { _, err := w.get(host); return err }
	challenge := func(w *world) error {
		_, err := w.m.GetCertificate(&tls.ClientHelloInfo{ServerName: host, SupportedProtos: []string{acme.ALPNProto}})
		return err
	}
	http01 := func(w *world) error {
		rec := httptest.NewRecorder()
		w.m.HTTPHandler(nil).ServeHTTP(rec, httptest.NewRequest("GET", "http://"+host+"/.well-known/acme-challenge/"+strings.Repeat("t", 43), nil))
		if rec.Code != http.StatusOK {
			return certmgr.ErrHostNotAllowed
		}
		return nil
	}
	tests := map[string]struct {
		policy  bool           // asked about all hosts, and refuses after a second
		prepare func(w *world) // makes visit wait for longer than a second
		change  func(w *world) // after a second
		visit   func(w *world) error
		want    error
	}{
		"list, read":         {false, stored, remove, visit, certmgr.ErrHostNotAllowed},
		"list, read, policy": {true, stored, remove, visit, refused},
		"list, issuance":     {false, slowCA, remove, visit, certmgr.ErrHostNotAllowed},
		"list, tls-alpn-01":  {false, answers(host), remove, challenge, certmgr.ErrHostNotAllowed},
		"list, http-01":      {false, answers(host), remove, http01, certmgr.ErrHostNotAllowed},
		"policy, issuance":   {true, slowCA, func(w *world) { w.m.Hosts.Remove(host); w.get(host) }, visit, refused},
		"Close, read":        {false, stored, func(w *world) { w.m.Close() }, visit, context.Canceled},
		"Close, issuance":    {false, slowCA, func(w *world) { w.m.Close() }, visit, certmgr.ErrClosed},
		"nothing, read":      {false, stored, func(*world) {}, visit, nil},
		"nothing, tls-alpn":  {false, answers(host), func(*world) {}, challenge, nil},
		"nothing, http-01":   {false, answers(host), func(*world) {}, http01, nil},
		"the end, read": {false, func(w *world) {
			w.keep(host, entryFor(host, bundle.ECDSA, time.Second))
			w.cache.slowFor(host, 1500*time.Millisecond)
		}, func(w *world) {}, visit, certmgr.ErrInFlight},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				if tt.want == certmgr.ErrInFlight {
					w.m.HandshakeWait = -1
				}
				if tt.policy {
					w.m.HostPolicy = func(context.Context, string) error { return refused }
				}
				tt.prepare(w)
				outcome := make(chan error, 1)
				go func() { outcome <- tt.visit(w) }()
				time.Sleep(1001 * time.Millisecond)
				synctest.Wait()
				go tt.change(w)
				if err := <-outcome; !errors.Is(err, tt.want) {
					t.Errorf("the handshake ended with %v, want %v", err, tt.want)
				}
				w.cache.get(nil)
				time.Sleep(time.Minute)
			})
		})
	}
}

// answers puts answers to challenges of a host into the cache, whose reads take two
// seconds.
func answers(host string) func(w *world) {
	return func(w *world) {
		ctx := w.t.Context()
		w.keep(host+"+token", alpnAnswer(host))
		w.cache.Cache.Put(ctx, strings.Repeat("t", 43)+"+http-01", []byte(strings.Repeat("t", 43)+".thumbprint"))
		w.cache.get(func(context.Context, string) error { time.Sleep(2 * time.Second); return nil })
	}
}

// alpnAnswer is the cache entry of an answer to a tls-alpn-01 challenge.
func alpnAnswer(host string) []byte {
	cert, err := (&acme.Client{Key: testKeys()[bundle.ECDSA]}).TLSALPN01ChallengeCert("token", host)
	if err != nil {
		panic(err)
	}
	return mustEncode(cert.PrivateKey.(crypto.Signer), cert.Certificate[0])
}
