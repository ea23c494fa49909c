package certmgr

import (
	"crypto/tls"
	"crypto/x509"
	"testing"
	"testing/synctest"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// A client that needs RSA may be the first after a restart; those who prefer
// ECDSA get it all the same if the cache has it, without an order.
func TestPreferredKeyTypeIsLoadedAfterTheOther(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		rsa := &tls.ClientHelloInfo{ServerName: "a.example.com", SignatureSchemes: []tls.SignatureScheme{tls.PSSWithSHA256}}
		w.mustGet("a.example.com")
		if _, err := w.m.GetCertificate(rsa); err != nil {
			t.Fatal(err)
		}
		w.restart()
		n := w.ca.Count(acmetest.Any)
		if cert, err := w.m.GetCertificate(rsa); err != nil || cert.Leaf.PublicKeyAlgorithm != x509.RSA {
			t.Fatalf("the client of RSA alone got %v", err)
		}
		w.cache.reads()
		for range 10 {
			w.mustGet("a.example.com")
		}
		synctest.Wait()
		if cert := w.mustGet("a.example.com"); cert.Leaf.PublicKeyAlgorithm != x509.ECDSA {
			t.Error("the ECDSA certificate in the cache was not loaded")
		}
		if reads := w.cache.reads(); len(reads) != 1 {
			t.Errorf("%d reads, want 1: %q", len(reads), reads)
		}
		if got := w.ca.Count(acmetest.Any) - n; got != 0 {
			t.Errorf("%d CA requests", got)
		}
	})
}
