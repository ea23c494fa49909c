package main

import (
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr/audit"
)

// For a year a client comes each day and finds a certificate that is valid for
// at least four more weeks. The CA issues no more certificates than that takes.
func TestYearOfRenewals(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.start("www.example.com")
		for day := range 365 {
			res := mustGet(t, w.client, "www.example.com")
			if left := time.Until(res.TLS.PeerCertificates[0].NotAfter); left < 28*24*time.Hour {
				t.Fatalf("day %d: not renewed, %v left", day, left)
			}
			time.Sleep(24 * time.Hour)
		}
		const want = 7 // 90 days each, renewed when 30 are left
		if n := len(w.ca.IssuedFor("www.example.com")); n != want {
			t.Errorf("%d certificates in a year, want %d", n, want)
		}
		if n := len(w.events.of(audit.CertificateIssued)); n != want {
			t.Errorf("%d events %q, want %d", n, audit.CertificateIssued, want)
		}
		if failed := w.events.of(audit.IssuanceFailed); len(failed) != 0 {
			t.Errorf("failed: %v", failed)
		}
	})
}
