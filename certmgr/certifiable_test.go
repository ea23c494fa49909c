package certmgr_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/audit"
)

// What strangers make up and no CA certifies costs no order. What an operator wrote
// out is ordered: a CA may know better.
func TestMadeUpNamesAreNotOrdered(t *testing.T) {
	const recursive = "www.www.www.example.com"
	yes := func(context.Context, string) error { return nil }
	for _, tt := range []struct {
		name    string
		allowed *certmgr.Allowlist
		policy  certmgr.HostPolicy
		host    string
		ordered bool
	}{
		{"recursive, wildcard", certmgr.MustAllowlist("*.www.www.example.com"), nil, recursive, false},
		{"recursive, AllowAnyHost", nil, certmgr.AllowAnyHost, recursive, false},
		{"recursive, policy", nil, yes, recursive, false},
		{"recursive, list", certmgr.MustAllowlist(recursive), nil, recursive, true},
		{"recursive, HostWhitelist", nil, certmgr.HostWhitelist(recursive), recursive, true},
		{"recursive, list before policy", certmgr.MustAllowlist(recursive), yes, recursive, true},
		{"three labels, wildcard", certmgr.MustAllowlist("*.example.com"), nil, "example.example.com", true},
		{"reserved, policy", nil, yes, "www.localhost", false},
		{"address, policy", nil, yes, "0x7f.1", false},
		{"public suffix, policy", nil, yes, "co.uk", false},
		{"public suffix, wildcard", certmgr.MustAllowlist("*.kawasaki.jp"), nil, "any.kawasaki.jp", false},
		{"private suffix, AllowAnyHost", nil, certmgr.AllowAnyHost, "user.github.io", true},
		{"private use, AllowAnyHost", nil, certmgr.AllowAnyHost, "db.corp.internal", false},
		{"private use, policy", nil, yes, "db.corp.internal", true},
		{"private use, wildcard", certmgr.MustAllowlist("*.corp.internal"), nil, "db.corp.internal", true},
		{"private use, list", certmgr.MustAllowlist("db.corp.internal"), nil, "db.corp.internal", true},
		{"private use, HostWhitelist", nil, certmgr.HostWhitelist("nas.local"), "nas.local", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.m.Hosts, w.m.HostPolicy = tt.allowed, tt.policy
				if tt.ordered {
					w.mustGet(tt.host)
					w.wantOrders(tt.host, 1)
					return
				}
				for range 2 { // the second is refused without a read of the cache
					w.wantErr(tt.host, certmgr.ErrBadServerName)
				}
				if err := w.m.Obtain(t.Context(), tt.host); !errors.Is(err, certmgr.ErrBadServerName) {
					t.Errorf("Obtain: %v", err)
				}
				w.wantOrders(tt.host, 0)
				if n := w.m.Metrics().Handshakes[audit.ResultBadServerName]; n != 2 {
					t.Errorf("%d handshakes with a bad name, want 2", n)
				}
			})
		})
	}
}

// A certificate that exists is served and renewed, whatever its name.
func TestCertificateForAMadeUpNameIsRenewed(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		const host = "www.www.www.example.com"
		w.m.Hosts = certmgr.MustAllowlist(host)
		w.mustGet(host)
		w.restart()
		w.m.Hosts = certmgr.MustAllowlist("*.www.www.example.com")
		w.mustGet(host)
		if err := w.m.Renew(t.Context(), host); err != nil {
			t.Errorf("Renew: %v", err)
		}
		n := w.orders(host)
		for range 20 {
			w.mustGet(host)
			time.Sleep(5 * day)
		}
		if w.orders(host) == n {
			t.Error("it was not renewed")
		}
	})
}
