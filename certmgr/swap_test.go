package certmgr_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
)

// ecdsaHello is a client's that autocert, too, gives an ECDSA certificate.
func ecdsaHello(host string) *tls.ClientHelloInfo {
	h := hello(host)
	h.CipherSuites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}
	h.SignatureSchemes = []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256, tls.PSSWithSHA256}
	h.SupportedCurves = []tls.CurveID{tls.X25519, tls.CurveP256}
	h.SupportedVersions = []uint16{tls.VersionTLS13, tls.VersionTLS12}
	return h
}

// rsaHello is a client's that can verify RSA alone.
func rsaHello(host string) *tls.ClientHelloInfo {
	h := hello(host)
	h.CipherSuites = []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}
	h.SignatureSchemes = []tls.SignatureScheme{tls.PKCS1WithSHA256}
	return h
}

// withAutocert returns an autocert.Manager that uses dir, and that names lead to.
func withAutocert(ca *acmetest.Server, dir string) *autocert.Manager {
	m := &autocert.Manager{Prompt: autocert.AcceptTOS, Cache: autocert.DirCache(dir), Client: clientOf(ca),
		HostPolicy: autocert.HostWhitelist("example.com", "example.org")}
	ca.Resolve("*", acmetest.Target{TLSConfig: m.TLSConfig()})
	return m
}

// withCertmgr does the same after the import line has changed.
func withCertmgr(t *testing.T, ca *acmetest.Server, dir string) *certmgr.Manager {
	t.Helper()
	m := &certmgr.Manager{Prompt: certmgr.AcceptTOS, Cache: certmgr.DirCache(dir), Client: clientOf(ca),
		HostPolicy: certmgr.HostWhitelist("example.com", "example.org")}
	start(t, ca, m)
	return m
}

// makers are the two packages, for tests that go both ways.
var makers = map[string]func(t *testing.T, ca *acmetest.Server, dir string) getter{
	"autocert": func(_ *testing.T, ca *acmetest.Server, dir string) getter { return withAutocert(ca, dir) },
	"certmgr":  func(t *testing.T, ca *acmetest.Server, dir string) getter { return withCertmgr(t, ca, dir) },
}

// bothWays runs f with each package as the one that writes and the other one
// as the one that takes over.
func bothWays(t *testing.T, f func(t *testing.T, ca *acmetest.Server, first, second string)) {
	for _, way := range [][2]string{{"autocert", "certmgr"}, {"certmgr", "autocert"}} {
		t.Run(way[0]+" to "+way[1], func(t *testing.T) {
			inCA(t, nil, func(t *testing.T, ca *acmetest.Server) { f(t, ca, way[0], way[1]) })
		})
	}
}

func TestSwapServesWithoutTheCA(t *testing.T) {
	bothWays(t, func(t *testing.T, ca *acmetest.Server, first, second string) {
		dir := t.TempDir()
		old := makers[first](t, ca, dir)
		ec, rs := serve(t, old, ecdsaHello("example.com")), serve(t, old, rsaHello("example.com"))
		synctest.Wait()
		files := listDir(t, dir)
		requests := ca.Count(acmetest.Any)

		took := makers[second](t, ca, dir)
		for range 2 { // from the cache, then from memory
			for i, want := range []*tls.Certificate{ec, rs} { // ECDSA first: a client of both is served what is in memory
				got := serve(t, took, []*tls.ClientHelloInfo{ecdsaHello("example.com"), rsaHello("example.com")}[i])
				if !slices.EqualFunc(got.Certificate, want.Certificate, bytes.Equal) {
					t.Error("another chain is served")
				}
				if !samePublicKey(got, want) {
					t.Error("another key is served")
				}
			}
		}
		synctest.Wait()
		if n := ca.Count(acmetest.Any); n != requests {
			t.Errorf("the CA got %d requests from %s:\n%s", n-requests, second, ca)
		}
		if now := listDir(t, dir); !slices.Equal(now, files) {
			t.Errorf("the directory has changed from\n%q to\n%q", files, now)
		}
	})
}

func samePublicKey(a, b *tls.Certificate) bool {
	switch key := a.PrivateKey.(type) {
	case *ecdsa.PrivateKey:
		return key.Equal(b.PrivateKey)
	case *rsa.PrivateKey:
		return key.Equal(b.PrivateKey)
	}
	return false
}

// listDir returns the names and modes of the files in a directory.
func listDir(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, fmt.Sprint(info.Mode(), " ", e.Name()))
	}
	return list
}

func TestSwapLeavesTheSameFiles(t *testing.T) {
	want := []string{"-rw------- acme_account+key", "-rw------- example.com", "-rw------- example.com+rsa"}
	for name, maker := range makers {
		t.Run(name, func(t *testing.T) {
			inCA(t, nil, func(t *testing.T, ca *acmetest.Server) {
				dir := filepath.Join(t.TempDir(), "made", "by it")
				m := maker(t, ca, dir)
				serve(t, m, ecdsaHello("example.com"))
				serve(t, m, rsaHello("example.com"))
				synctest.Wait()
				if got := listDir(t, dir); !slices.Equal(got, want) {
					t.Errorf("files %q, want %q", got, want)
				}
			})
		})
	}
}

func TestSwapKeepsTheAccount(t *testing.T) {
	bothWays(t, func(t *testing.T, ca *acmetest.Server, first, second string) {
		dir := t.TempDir()
		serve(t, makers[first](t, ca, dir), ecdsaHello("example.com"))
		serve(t, makers[second](t, ca, dir), ecdsaHello("example.org"))
		if accounts := ca.Accounts(); len(accounts) != 1 {
			t.Errorf("the CA has %d accounts, want 1: %v", len(accounts), accounts)
		}
	})
}

func TestLegacyAccountKeyIsUsed(t *testing.T) {
	bothWays(t, func(t *testing.T, ca *acmetest.Server, first, second string) {
		dir, key := t.TempDir(), newECDSAKey()
		if err := os.WriteFile(filepath.Join(dir, "acme_account.key"), pemKey(key), 0o600); err != nil {
			t.Fatal(err)
		}
		serve(t, makers[first](t, ca, dir), ecdsaHello("example.com"))
		serve(t, makers[second](t, ca, dir), ecdsaHello("example.org"))
		want, err := acme.JWKThumbprint(key.Public())
		if err != nil {
			t.Fatal(err)
		}
		if accounts := ca.Accounts(); len(accounts) != 1 || accounts[0].Thumbprint != want {
			t.Errorf("accounts %v, want one with the thumbprint %s", accounts, want)
		}
		if _, err := os.Stat(filepath.Join(dir, "acme_account+key")); !os.IsNotExist(err) {
			t.Errorf("a second account key was written (%v)", err)
		}
	})
}

// TestSwapWithOnlyRSA: autocert gives bare hellos, and those of clients that
// speak nothing but TLS 1.3, RSA certificates. They have to do.
func TestSwapWithOnlyRSA(t *testing.T) {
	inCA(t, nil, func(t *testing.T, ca *acmetest.Server) {
		dir := t.TempDir()
		want := serve(t, withAutocert(ca, dir), hello("example.com"))
		if _, ok := want.PrivateKey.(*rsa.PrivateKey); !ok {
			t.Skip("autocert gives bare hellos something else now")
		}
		synctest.Wait() // autocert cleans up in the background
		requests := ca.Count(acmetest.Any)
		m := withCertmgr(t, ca, dir)
		for _, h := range []*tls.ClientHelloInfo{hello("example.com"), ecdsaHello("example.com"), rsaHello("example.com")} {
			if got := serve(t, m, h); !samePublicKey(got, want) {
				t.Error("another certificate is served")
			}
		}
		if n := ca.Count(acmetest.Any); n != requests {
			t.Errorf("the CA got %d requests", n-requests)
		}
	})
}

// TestSwapWithStart: loading everything in the background needs no CA either.
func TestSwapWithStart(t *testing.T) {
	inCA(t, nil, func(t *testing.T, ca *acmetest.Server) {
		dir := t.TempDir()
		old := withAutocert(ca, dir)
		serve(t, old, ecdsaHello("example.com"))
		serve(t, old, rsaHello("example.org"))
		synctest.Wait() // autocert looks after its authorizations
		requests := ca.Count(acmetest.Any)
		m := &certmgr.Manager{Cache: certmgr.DirCache(dir), Client: clientOf(ca), Hosts: certmgr.MustAllowlist("example.com", "example.org")}
		start(t, ca, m)
		if err := m.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if hosts := m.Snapshot().Hosts; len(hosts) != 2 || hosts[0].State != certmgr.StateValid || hosts[1].State != certmgr.StateValid {
			t.Errorf("hosts %+v", hosts)
		}
		if n := ca.Count(acmetest.Any); n != requests {
			t.Errorf("the CA got %d requests", n-requests)
		}
	})
}

// TestBothShareACache: during a rolling update both packages run on one
// directory, and each answers the other one's challenges.
func TestBothShareACache(t *testing.T) {
	bothWays(t, func(t *testing.T, ca *acmetest.Server, first, second string) {
		dir := t.TempDir()
		orders := makers[first](t, ca, dir)
		makers[second](t, ca, dir) // the names lead to this one
		serve(t, orders, ecdsaHello("example.com"))
		if n := ca.Count(acmetest.NewOrder); n != 1 {
			t.Errorf("%d orders, want 1", n)
		}
	})
}
