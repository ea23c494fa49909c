package certmgr

import (
	"context"
	"crypto/x509"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/internal/acmeclient"
)

// A certificate that ends before it begins makes renewAt panic (rand.N of a negative number), in a goroutine of the
// Manager's: the process ends.
func TestCertificateThatEndsBeforeItBegins(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.ca.EditCertificate("*", func(leaf *x509.Certificate) {
			leaf.NotBefore, leaf.NotAfter = time.Now().Add(2*day), time.Now().Add(day)
		})
		_, err := w.get("a.example.com")
		t.Log(err)
		time.Sleep(time.Minute)
	})
}

// A Start that ended gives its places in the lanes back.
func TestEndedStartsDoNotPushOthersBack(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		hosts := newHosts("big.example", 60)
		w.m.Hosts = MustAllowlist(hosts...)
		for range 5 { // a reload each minute
			ctx, cancel := context.WithCancel(t.Context())
			w.m.Start(ctx)
			time.Sleep(time.Minute)
			cancel()
			synctest.Wait()
		}
		w.m.Start(t.Context())
		time.Sleep(12 * day)
		if n := len(w.ca.Issued()); n != len(hosts) {
			t.Errorf("%d of %d hosts have a certificate after 12 days", n, len(hosts))
		}
	})
}

// Forget while the directory is fetched looks like a CA without renewal information: the window is forgotten, and
// the next question comes a day later.
func TestForgetWhileAsking(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		leaf := w.mustGet("a.example.com").Leaf
		var ca *acmeclient.CA
		c := *w.ca.Client()
		next := c.Transport
		c.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
			if r.URL.String() == w.ca.URL {
				ca.Forget() // what an attempt does that meets a 404
			}
			return next.RoundTrip(r)
		})
		ca = acmeclient.New(acmeclient.Config{DirectoryURL: w.ca.URL, HTTPClient: &c})
		if _, err := ca.RenewalInfo(t.Context(), acmeclient.CertID(leaf)); err != nil && !acmeclient.IsTemporary(err) {
			t.Error(err)
		}
	})
}
