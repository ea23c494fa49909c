package askpolicy_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/askpolicy"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/cache"
)

// A Manager serves what the endpoint allows, refuses what it does not, and keeps
// in service what it knows while the endpoint is down.
func TestManagerAsksTheEndpoint(t *testing.T) {
	ca := acmetest.NewServer()
	defer ca.Close()
	var down atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case down.Load():
			w.WriteHeader(http.StatusServiceUnavailable)
		case r.FormValue("domain") != "shop.example.com":
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	defer server.Close()
	p := newPolicy(t, server.URL, &askpolicy.Options{Remember: -1})
	m := &certmgr.Manager{
		Prompt:     certmgr.AcceptTOS,
		Cache:      new(cache.Memory),
		HostPolicy: p.Allow,
		PolicyTTL:  -1,
		Client:     &acme.Client{DirectoryURL: ca.URL, HTTPClient: ca.Client()},
		Audit:      func(context.Context, audit.Event) {},
	}
	defer m.Close()
	ca.Resolve("*", acmetest.Target{TLSConfig: m.TLSConfig()})
	visit := func(host string) error {
		_, err := m.GetCertificate(&tls.ClientHelloInfo{ServerName: host})
		return err
	}
	if err := visit("shop.example.com"); err != nil {
		t.Errorf("allowed: %v", err)
	}
	if err := visit("other.example.com"); !errors.Is(err, certmgr.ErrHostNotAllowed) {
		t.Errorf("refused: %v", err)
	}
	down.Store(true)
	if err := visit("shop.example.com"); err != nil {
		t.Errorf("in service, and the endpoint is down: %v", err)
	}
	if err := visit("new.example.com"); !errors.Is(err, certmgr.ErrPolicy) {
		t.Errorf("new, and the endpoint is down: %v", err)
	}
}
