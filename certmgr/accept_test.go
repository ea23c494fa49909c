package certmgr_test

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/nostall/nostall/internal/challenge"
)

// A leaf that comes without its issuer's certificate is better than none, but
// not than a good chain. It is kept at the CA and not ordered again.
func TestLeafAloneIsServedOnceTheGoodChainHasEnded(t *testing.T) {
	backoffs := map[string][]time.Duration{
		"default backoff": nil,
		"a long backoff":  {20 * time.Hour},
	}
	for name, backoff := range backoffs {
		t.Run(name, func(t *testing.T) { testLeafAlone(t, backoff) })
	}
}

func testLeafAlone(t *testing.T, backoff []time.Duration) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.Backoff = backoff
		fault := w.ca.EditCertificate("a.example.com", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(10 * time.Hour) })
		good := w.mustGet("a.example.com")
		fault.Lift()
		w.ca.EditChain("a.example.com", func(c [][]byte) [][]byte { return c[:1] })
		time.Sleep(time.Hour)
		err := w.m.Renew(t.Context(), "a.example.com")
		if err == nil || !strings.Contains(err.Error(), "without the certificate of its issuer") {
			t.Errorf("Renew: %v, want an error that says what is missing", err)
		}
		if cert := w.mustGet("a.example.com"); !cert.Leaf.Equal(good.Leaf) {
			t.Error("the leaf alone is served")
		}
		time.Sleep(10 * time.Hour)
		cert := w.mustGet("a.example.com")
		if cert.Leaf.Equal(good.Leaf) || len(cert.Certificate) != 1 {
			t.Errorf("a chain of %d certificates is served, want the new leaf", len(cert.Certificate))
		}
		w.wantOrders("a.example.com", 2)
	})
}

// The same holds for what another machine wrote to the cache.
func TestLeafAloneInTheCacheTakesNoGoodChainsPlace(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, w *world) {
		good := w.mustGet("a.example.com")
		time.Sleep(time.Until(good.Leaf.NotAfter) - 12*time.Hour)

		other := w.manager()
		w.ca.EditChain("a.example.com", func(c [][]byte) [][]byte { return c[:1] })
		w.cache.Cache.Delete(t.Context(), "a.example.com")
		if err := other.Obtain(t.Context(), "a.example.com"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		other.Close()

		w.m.Renew(t.Context(), "a.example.com") // reads the cache first
		if cert := w.mustGet("a.example.com"); len(cert.Certificate) < 2 {
			t.Error("the leaf alone replaced a chain")
		}
		w.restart()
		if cert := w.mustGet("a.example.com"); len(cert.Certificate) != 1 {
			t.Error("the leaf alone is not served although it is all there is")
		}
	})
}

// A stranger is sent no more from the cache than an answer to http-01 has.
func TestLargeHTTP01AnswerIsNotSent(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		h := w.m.HTTPHandler(nil)
		for size, want := range map[int]int{challenge.MaxKeyAuthorization: http.StatusOK, challenge.MaxKeyAuthorization + 1: http.StatusNotFound} {
			token := fmt.Sprint("token", size)
			w.keep(token+"+http-01", bytes.Repeat([]byte("x"), size))
			rec := httptest.NewRecorder()
			h.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "http://a.example.com"+challenge.Path+token, nil))
			if rec.Code != want || want != http.StatusOK && rec.Body.Len() > 100 {
				t.Errorf("%d bytes in the cache: status %d with %d bytes, want status %d", size, rec.Code, rec.Body.Len(), want)
			}
		}
	})
}
