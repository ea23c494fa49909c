package integration

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3/acme"
	"go.uber.org/zap"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// certmagicSite is a server with certmagic: one machine that may be restarted
// with the same storage. certmagic has no setting for an HTTP client, so the CA
// has to listen.
type certmagicSite struct {
	*certmagic.Config
	ca      *clientsCA
	issuer  *certmagic.ACMEIssuer
	cache   *certmagic.Cache
	tlsAddr string

	renewed chan string // names whose certificates were renewed
}

// newCertmagicSite starts a server, and the CA if it is not running yet. A test
// may change the configuration and the issuer.
func newCertmagicSite(t *testing.T, ca *clientsCA, c certmagic.Config, issuer certmagic.ACMEIssuer) *certmagicSite {
	t.Helper()
	if ca.directory == "" {
		ca.start()
	}
	s := &certmagicSite{ca: ca, renewed: make(chan string, 10)}
	s.cache = certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert: func(certmagic.Certificate) (*certmagic.Config, error) { return s.Config, nil },
		Logger:           zap.NewNop(),
	})
	t.Cleanup(s.cache.Stop)
	c.Logger, c.OnEvent, c.OCSP.DisableStapling = zap.NewNop(), s.event, true
	s.Config = certmagic.New(s.cache, c)

	// certmagic finds these ports in use and assumes that the servers there
	// answer the challenges.
	tlsListener, httpListener := listen(t), listen(t)
	issuer.CA = ca.directory
	issuer.TrustedRoots = ca.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	issuer.Agreed, issuer.Email = true, "certmagic@example.com" // otherwise it asks on the terminal
	issuer.Logger = zap.NewNop()
	issuer.ListenHost = "127.0.0.1"
	issuer.AltTLSALPNPort, issuer.AltHTTPPort = port(tlsListener), port(httpListener)
	s.issuer = certmagic.NewACMEIssuer(s.Config, issuer)
	s.Issuers = []certmagic.Issuer{s.issuer}

	config := s.TLSConfig()
	config.NextProtos = append([]string{"h2", "http/1.1"}, config.NextProtos...)
	s.tlsAddr = serveTLS(t, tlsListener, config)
	serveHTTP(t, httpListener, s.issuer.HTTPChallengeHandler(http.NotFoundHandler()))
	ca.Resolve("*", acmetest.Target{TLSAddr: s.tlsAddr, HTTPAddr: httpListener.Addr().String()})
	return s
}

// event records what certmagic renewed.
func (s *certmagicSite) event(_ context.Context, event string, data map[string]any) error {
	name, _ := data["identifier"].(string)
	if renewal, _ := data["renewal"].(bool); renewal && event == "cert_obtained" {
		select {
		case s.renewed <- name:
		default: // no test is waiting
		}
	}
	return nil
}

// manage makes the site manage certificates for these names and waits for them.
func (s *certmagicSite) manage(t *testing.T, names ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	if err := s.ManageSync(ctx, names); err != nil {
		t.Fatal(err)
	}
}

// visit makes a TLS connection to the site, verifies the certificate and
// returns the leaf.
func (s *certmagicSite) visit(t *testing.T, name string, roots *x509.CertPool) *x509.Certificate {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	// For an address there is no server name in the handshake.
	dialer := &tls.Dialer{Config: &tls.Config{ServerName: name, RootCAs: roots}}
	conn, err := dialer.DialContext(ctx, "tcp", s.tlsAddr)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	defer conn.Close()
	return conn.(*tls.Conn).ConnectionState().PeerCertificates[0]
}

// storageIn is a configuration whose files are in a directory.
func storageIn(dir string) certmagic.Config {
	return certmagic.Config{Storage: &certmagic.FileStorage{Path: dir}}
}

// files returns the names of the files below a directory.
func files(t *testing.T, dir string) []string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			names = append(names, filepath.Base(path))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestCertmagicIssues(t *testing.T) {
	for _, test := range []struct {
		name      string
		issuer    certmagic.ACMEIssuer
		challenge string
		profiles  bool
	}{
		{"www.example.com", certmagic.ACMEIssuer{DisableHTTPChallenge: true}, "tls-alpn-01", false},
		{"www.example.com", certmagic.ACMEIssuer{DisableTLSALPNChallenge: true}, "http-01", false},
		{"127.0.0.1", certmagic.ACMEIssuer{DisableHTTPChallenge: true}, "tls-alpn-01", false},
		{"127.0.0.1", certmagic.ACMEIssuer{DisableTLSALPNChallenge: true, Profile: "shortlived"}, "http-01", true},
	} {
		t.Run(test.name+" "+test.challenge, func(t *testing.T) {
			ca := newClientsCA(t, false)
			if test.profiles {
				ca.Profiles = acmetest.LetsEncryptProfiles()
			}
			s := newCertmagicSite(t, ca, storageIn(t.TempDir()), test.issuer)
			s.manage(t, test.name)
			leaf := s.visit(t, test.name, ca.Roots())
			if issued := ca.Issued(); len(issued) != 1 || !issued[0].Equal(leaf) {
				t.Errorf("it serves %v, the CA has issued %d certificates", leaf.Subject, len(issued))
			}
			if o := ca.lastOrder(t); o.Profile != test.issuer.Profile || o.Replaces != "" {
				t.Errorf("order %+v", o)
			}
		})
	}
}

func TestCertmagicBindsAnExternalAccountAndPrefersAChain(t *testing.T) {
	ca := newClientsCA(t, false)
	ca.Terms = "https://ca.example.org/terms"
	ca.EAB = map[string][]byte{"kid-1": []byte("0123456789abcdef0123456789abcdef")}
	ca.AlternateChains = 2
	ca.start()
	s := newCertmagicSite(t, ca, storageIn(t.TempDir()), certmagic.ACMEIssuer{
		ExternalAccount: &acme.EAB{KeyID: "kid-1", MACKey: base64.RawURLEncoding.EncodeToString(ca.EAB["kid-1"])},
		PreferredChains: certmagic.ChainPreference{RootCommonName: []string{ca.AlternateRoot(2).Subject.CommonName}},
	})
	s.manage(t, "www.example.com")
	s.visit(t, "www.example.com", ca.AlternateRoots(2))
	if accounts := ca.Accounts(); len(accounts) != 1 || strings.Join(accounts[0].Contact, " ") != "mailto:certmagic@example.com" {
		t.Errorf("accounts %+v", accounts)
	}
}

// A name that is allowed on demand is issued during its first handshake.
func TestCertmagicIssuesOnDemand(t *testing.T) {
	ca := newClientsCA(t, false)
	c := storageIn(t.TempDir())
	c.OnDemand = &certmagic.OnDemandConfig{DecisionFunc: func(context.Context, string) error { return nil }}
	s := newCertmagicSite(t, ca, c, certmagic.ACMEIssuer{})
	first := s.visit(t, "www.example.com", ca.Roots())
	if again := s.visit(t, "www.example.com", ca.Roots()); !again.Equal(first) {
		t.Error("the second handshake got another certificate")
	}
}

func TestCertmagicRevokes(t *testing.T) {
	ca := newClientsCA(t, false)
	dir := t.TempDir()
	s := newCertmagicSite(t, ca, storageIn(dir), certmagic.ACMEIssuer{})
	s.manage(t, "www.example.com")
	leaf := s.visit(t, "www.example.com", ca.Roots())
	if err := s.RevokeCert(t.Context(), "www.example.com", acme.ReasonKeyCompromise, false); err != nil {
		t.Fatal(err)
	}
	ca.wantRevoked(t, leaf)
	for _, file := range files(t, dir) {
		if strings.HasPrefix(file, "www.example.com") {
			t.Errorf("%s is left in the storage", file)
		}
	}
}
