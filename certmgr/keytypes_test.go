package certmgr_test

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/bundle"
)

// keyOf names the type of a certificate's key as certmgr.KeyType does.
func keyOf(leaf *x509.Certificate) string {
	switch key := leaf.PublicKey.(type) {
	case *ecdsa.PublicKey:
		return key.Curve.Params().Name
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA %d", key.N.BitLen())
	}
	return "unknown"
}

// keyTypeHosts are hosts by the type of key that is preferred for them.
var keyTypeHosts = map[string]certmgr.HostSettings{
	"p256.example.com":    {},
	"p384.example.com":    {KeyType: certmgr.P384},
	"rsa2048.example.com": {KeyType: certmgr.RSA2048},
	"rsa3072.example.com": {KeyType: certmgr.RSA3072},
}

// tlsHandshake is a real handshake of a client with the Manager, and returns the
// certificate that the client got.
func (w *world) tlsHandshake(client *tls.Config) (*x509.Certificate, error) {
	clientConn, serverConn := net.Pipe()
	server := make(chan error, 1)
	go func() {
		defer serverConn.Close()
		server <- tls.Server(serverConn, w.m.TLSConfig()).Handshake()
	}()
	conn := tls.Client(clientConn, client)
	err := conn.Handshake()
	clientConn.Close()
	if serverErr := <-server; err != nil {
		return nil, fmt.Errorf("client: %w; server: %v", err, serverErr)
	}
	return conn.ConnectionState().PeerCertificates[0], nil
}

// In real handshakes each client gets the key type that is preferred for the
// host, or that of the other algorithm if it cannot verify it.
func TestHandshakesWithEachKeyType(t *testing.T) {
	ecdsaSuite := []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}
	rsaSuite := []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}
	clients := []struct {
		name string
		tls.Config
		p384, rsa string // what it gets where that is preferred; empty means that
		p256      string
	}{
		{name: "TLS 1.2 and 1.3"},
		{name: "TLS 1.3", Config: tls.Config{MinVersion: tls.VersionTLS13}},
		{name: "TLS 1.3, key exchange with X25519", Config: tls.Config{MinVersion: tls.VersionTLS13, CurvePreferences: []tls.CurveID{tls.X25519}}},
		{name: "TLS 1.2", Config: tls.Config{MaxVersion: tls.VersionTLS12}},
		{name: "TLS 1.2, P-256", Config: tls.Config{MaxVersion: tls.VersionTLS12, CurvePreferences: []tls.CurveID{tls.CurveP256}}, p384: "RSA 2048"},
		{name: "TLS 1.2, P-384", Config: tls.Config{MaxVersion: tls.VersionTLS12, CurvePreferences: []tls.CurveID{tls.CurveP384}}, p256: "RSA 2048"},
		{name: "TLS 1.2, ECDSA", Config: tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: ecdsaSuite}, rsa: "P-256"},
		{name: "TLS 1.2, RSA", Config: tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: rsaSuite}, p256: "RSA 2048", p384: "RSA 2048"},
	}
	inBubble(t, func(t *testing.T, w *world) {
		w.m.HostSettings = keyTypeHosts
		w.m.Hosts = certmgr.MustAllowlist("p256.example.com", "p384.example.com", "rsa2048.example.com", "rsa3072.example.com")
		for host, preferred := range map[string]string{
			"p256.example.com": "P-256", "p384.example.com": "P-384", "rsa2048.example.com": "RSA 2048", "rsa3072.example.com": "RSA 3072",
		} {
			for i := range clients {
				client := &clients[i]
				client.ServerName, client.RootCAs = host, w.ca.Roots()
				want := preferred
				switch {
				case preferred == "P-256" && client.p256 != "":
					want = client.p256
				case preferred == "P-384" && client.p384 != "":
					want = client.p384
				case strings.HasPrefix(preferred, "RSA") && client.rsa != "":
					want = client.rsa
				}
				leaf, err := w.tlsHandshake(&client.Config)
				if err != nil {
					t.Errorf("%s: %s: %v", host, client.name, err)
				} else if got := keyOf(leaf); got != want {
					t.Errorf("%s: %s: got %s, want %s", host, client.name, got, want)
				}
			}
			w.wantOrders(host, 2)
		}
	})
}

// keyEntry returns the entry of a certificate with a key of a type.
func keyEntry(t *testing.T, host string, kt bundle.KeyType) []byte {
	t.Helper()
	key, err := bundle.GenerateKey(kt)
	if err != nil {
		t.Fatal(err)
	}
	return mustEncode(key, selfSigned(host, key, undue))
}

// What the Cache has under a host's key may have a key that not all clients of
// that algorithm can verify. Its real key decides.
func TestCachedCertificateIsJudgedByItsRealKey(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.keep("a.example.com", keyEntry(t, "a.example.com", bundle.P384))
		p256 := func() *tls.ClientHelloInfo {
			return &tls.ClientHelloInfo{ServerName: "a.example.com", SupportedVersions: []uint16{tls.VersionTLS13},
				SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256, tls.PSSWithSHA256}}
		}
		for range 3 {
			cert, err := w.m.GetCertificate(p256())
			if err != nil {
				t.Fatal(err)
			}
			if got := keyOf(cert.Leaf); got != "RSA 2048" {
				t.Errorf("a client of P-256 alone got %s", got)
			}
			if got := keyOf(w.mustGet("a.example.com").Leaf); got != "P-384" {
				t.Errorf("a client of all types got %s", got)
			}
			time.Sleep(day)
		}
		w.wantOrders("a.example.com", 1)
	})
}

// A change of the setting applies at the next renewal. Nothing is ordered because
// of it, and what is valid is served.
func TestChangeOfKeyTypeAppliesAtTheNextRenewal(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		from, to certmgr.KeyType
		before   string
		after    string
	}{
		{certmgr.P256, certmgr.P384, "P-256", "P-384"},
		{certmgr.P256, certmgr.RSA2048, "P-256", "RSA 2048"},
		{certmgr.RSA2048, certmgr.RSA3072, "RSA 2048", "RSA 3072"},
	} {
		t.Run(fmt.Sprintf("%v to %v", test.from, test.to), func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.m.KeyType = test.from
				w.mustGet("a.example.com")
				w.restart()
				w.m.KeyType = test.to
				for range 50 {
					if got := keyOf(w.mustGet("a.example.com").Leaf); got != test.before {
						t.Fatalf("got %s before the renewal", got)
					}
					time.Sleep(day)
				}
				w.wantOrders("a.example.com", 1)
				for range 25 { // renewed after 60 days
					w.mustGet("a.example.com")
					time.Sleep(day)
				}
				if got := keyOf(w.mustGet("a.example.com").Leaf); got != test.after {
					t.Errorf("got %s after the renewal, want %s", got, test.after)
				}
			})
		})
	}
}

// Where RSA is preferred, a client that takes it does not keep an ECDSA
// certificate that was issued for another client, and ECDSA that nobody needs any
// more is not renewed.
func TestPreferredRSADisplacesECDSA(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, w *world) {
		w.m.KeyType = certmgr.RSA2048
		ecdsaOnly := &tls.ClientHelloInfo{ServerName: "a.example.com", SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256}}
		if got := w.getAs(ecdsaOnly); got != x509.ECDSA {
			t.Fatalf("a client of ECDSA alone got %v", got)
		}
		w.mustGet("a.example.com")
		time.Sleep(time.Minute)
		if got := keyOf(w.mustGet("a.example.com").Leaf); got != "RSA 2048" {
			t.Errorf("a client of both got %s", got)
		}
		for range 200 {
			w.mustGet("a.example.com")
			time.Sleep(day)
		}
		if skipped := w.events.of(audit.RenewalSkipped); len(skipped) != 1 || skipped[0].KeyType != "ECDSA" {
			t.Errorf("not renewed: %v", skipped)
		}
		if n := certmgr.InMemory(w.m, "a.example.com"); n != 1 {
			t.Errorf("%d certificates", n)
		}
	})
}

// Start and Obtain issue for the preferred type of the host, by its settings: an
// exact name's, a wildcard's, or the Manager's.
func TestStartAndObtainGoByTheHostsKeyType(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.KeyType = certmgr.P384
		w.m.HostSettings = map[string]certmgr.HostSettings{
			"a.example.com": {KeyType: certmgr.P256},
			"*.example.com": {KeyType: certmgr.RSA2048},
		}
		w.m.Hosts = certmgr.MustAllowlist("a.example.com", "b.example.com", "example.org")
		if err := w.m.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		w.m.Hosts.Add("www.example.org")
		if err := w.m.Obtain(t.Context(), "www.example.org"); err != nil {
			t.Fatal(err)
		}
		for host, want := range map[string]string{
			"a.example.com": "P-256", "b.example.com": "RSA 2048", "example.org": "P-384", "www.example.org": "P-384",
		} {
			if got := keyOf(w.mustGet(host).Leaf); got != want {
				t.Errorf("%s has %s, want %s", host, got, want)
			}
			w.wantOrders(host, 1)
		}
	})
}

// A key that is kept is not one of another type than is set now.
func TestKeyTypeHasPrecedenceOverKeepKey(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.KeepKey = true
		w.mustGet("a.example.com")
		w.restart()
		w.m.KeepKey, w.m.KeyType = true, certmgr.P384
		w.mustGet("a.example.com")
		time.Sleep(65 * day)
		renewed := w.mustGet("a.example.com").Leaf
		if got := keyOf(renewed); got != "P-384" {
			t.Fatalf("renewed with %s", got)
		}
		time.Sleep(60 * day)
		if next := w.mustGet("a.example.com").Leaf; next.Equal(renewed) || string(next.RawSubjectPublicKeyInfo) != string(renewed.RawSubjectPublicKeyInfo) {
			t.Error("the next renewal has not kept the key")
		}
	})
}

// A type that does not exist is told, and costs nothing else.
func TestKeyTypeThatDoesNotExist(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.KeyType = 17
		w.m.HostSettings = map[string]certmgr.HostSettings{"b.example.com": {KeyType: 18}}
		err := w.m.Start(t.Context())
		if err == nil || !strings.Contains(err.Error(), "Manager.KeyType is KeyType(17)") || !strings.Contains(err.Error(), "KeyType(18)") {
			t.Errorf("Start: %v", err)
		}
		time.Sleep(time.Minute)
		if got := keyOf(w.mustGet("b.example.com").Leaf); got != "P-256" {
			t.Errorf("got %s", got)
		}
	})
}
