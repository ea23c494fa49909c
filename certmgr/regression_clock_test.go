package certmgr

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
)

type manyAuthz struct{ rt http.RoundTripper }

func (m manyAuthz) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := m.rt.RoundTrip(r)
	if err != nil || res.StatusCode != 201 || !strings.Contains(r.URL.Path, "rder") {
		return res, err
	}
	b, _ := io.ReadAll(res.Body)
	var o map[string]any
	json.Unmarshal(b, &o)
	if a, ok := o["authorizations"].([]any); ok {
		var all []any
		for range 5 {
			all = append(all, a[0])
		}
		o["authorizations"] = all
	}
	b, _ = json.Marshal(o)
	res.Body = io.NopCloser(bytes.NewReader(b))
	res.ContentLength = int64(len(b))
	res.Header.Del("Content-Length")
	return res, nil
}

// An order with five authorizations for one name.
func TestOrderWithManyAuthorizationsIsRefused(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		c := *w.ca.Client()
		c.Transport = manyAuthz{c.Transport}
		w.m.Client = &acme.Client{DirectoryURL: w.ca.URL, HTTPClient: &c}
		_, err := w.get("a.example.com")
		if issue, ok := errors.AsType[*IssuanceError](err); !ok || issue.Stage != audit.StageOrder {
			t.Errorf("got %v, want an *IssuanceError at stage %q", err, audit.StageOrder)
		}
		if n := w.ca.Count(acmetest.Authorization); n != 0 {
			t.Errorf("%d requests for authorizations", n)
		}
	})
}

// a clock that is 89 days ahead.
func TestClockNearlyALifetimeAhead(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.clock = func() time.Time { return time.Now().Add(89 * day) }
		w.get("a.example.com")
		time.Sleep(7 * day)
		if n := w.orders("a.example.com"); n > 5 {
			t.Errorf("%d orders in 7 days (the CA allows 5), %d clock_off events", n, len(w.events.of(audit.ClockOff)))
		}
	})
}

type hungKey struct {
	*ecdsa.PrivateKey
	hang atomic.Bool
	ch   chan struct{}
}

func (k *hungKey) Sign(r io.Reader, d []byte, o crypto.SignerOpts) ([]byte, error) {
	if k.hang.Load() {
		<-k.ch
		return nil, errors.New("KMS is gone")
	}
	return k.PrivateKey.Sign(r, d, o)
}

// account key in a KMS that hangs.
func TestHungAccountKeyIsReported(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		k := &hungKey{PrivateKey: key, ch: make(chan struct{})}
		w.m.Client = &acme.Client{DirectoryURL: w.ca.URL, HTTPClient: w.ca.Client(), Key: k}
		w.m.HandshakeWait = -1
		w.get("b.example.com")
		time.Sleep(time.Second)
		k.hang.Store(true)
		for range 24 * 60 {
			w.get("a.example.com")
			time.Sleep(time.Minute)
		}
		failed := w.events.of(audit.IssuanceFailed)
		_, err := w.get("a.example.com")
		t.Logf("%d issue_failed in 24 h; now: %v", len(failed), err)
		close(k.ch)
		time.Sleep(10 * time.Minute)
		if len(failed) < 10 {
			t.Errorf("only %d failures reported in a day of trouble", len(failed))
		}
	})
}

// the renewal of a host whose policy cannot decide is promoted to vetted.
func TestOtherKeyTypeAfterALongTime(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		rsaHello := &tls.ClientHelloInfo{ServerName: "a.example.com", SignatureSchemes: []tls.SignatureScheme{tls.PSSWithSHA256}}
		w.mustGet("a.example.com")
		if _, err := w.m.GetCertificate(rsaHello); err != nil {
			t.Fatal(err)
		}
		w.restart()
		w.mustGet("a.example.com") // ECDSA only is loaded
		time.Sleep(95 * day)
		w.wantOrders("a.example.com", 2+1)
		start := time.Now()
		c, err := w.m.GetCertificate(rsaHello)
		if err != nil || c.Leaf.PublicKeyAlgorithm != x509.RSA {
			t.Fatal(err)
		}
		t.Logf("RSA client waited %v, orders %d", time.Since(start), w.orders("a.example.com"))
	})
}

// Start: 64 hosts that stall keep cached ones from being loaded.
func TestStartLoadsBeforeItIssues(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.Hosts.Add("zz.example.com")
		w.mustGet("zz.example.com")
		w.restart()
		for i := range 64 {
			w.m.Hosts.Add(fmt.Sprintf("aa%02d.example.com", i))
		}
		w.m.Hosts.Add("zz.example.com")
		w.m.Hosts.Remove("a.example.com", "b.example.com", "c.example.com", "d.example.com")
		w.ca.StuckProcessing("*.example.com")
		start := time.Now()
		w.m.Start(t.Context())
		for len(w.events.of(audit.CertificateLoaded)) == 0 && time.Since(start) < time.Hour {
			time.Sleep(time.Second)
			synctest.Wait()
		}
		if d := time.Since(start); d > 10*time.Second {
			t.Errorf("zz, which is in the cache, was loaded after %v", d)
		}
	})
}
