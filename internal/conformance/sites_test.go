package conformance

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestSitesAreChosenByName(t *testing.T) {
	var s Sites
	answer := func(text string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) })
	}
	s.Serve("a.example.com", answer("a"), nil)
	s.Serve("192.0.2.1", answer("address"), nil)
	for host, want := range map[string]string{
		"a.example.com":      "a",
		"A.example.com:5002": "a",
		"192.0.2.1:5002":     "address",
	} {
		r := httptest.NewRequest(http.MethodGet, "http://"+host+"/", nil)
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Body.String() != want {
			t.Errorf("%s: got %q, want %q", host, w.Body, want)
		}
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "http://b.example.com/", nil))
	if w.Code != http.StatusNotFound {
		t.Errorf("an unknown name: %d", w.Code)
	}
}

func TestSitesChooseTheCertificateByName(t *testing.T) {
	var s Sites
	c := newClient(t, &CA{Serve: s.Serve}, 0)
	for name, serverName := range map[string]string{
		"a.example.com": "a.example.com",
		"192.0.2.1":     "1.2.0.192.in-addr.arpa",
	} {
		c.serveTLS(name, c.validationCertificate("token", name), "acme-tls/1")
		client, server := net.Pipe()
		go func() { _ = tls.Server(server, s.TLSConfig()).HandshakeContext(t.Context()) }()
		config := &tls.Config{ServerName: serverName, NextProtos: []string{"acme-tls/1"}, InsecureSkipVerify: true}
		conn := tls.Client(client, config)
		if err := conn.HandshakeContext(t.Context()); err != nil {
			t.Fatalf("%s: %v", serverName, err)
		}
		leaf := conn.ConnectionState().PeerCertificates[0]
		if err := leaf.VerifyHostname(name); err != nil {
			t.Errorf("%s: the certificate is for %v %v", serverName, leaf.DNSNames, leaf.IPAddresses)
		}
		_ = client.Close()
		_ = server.Close()
	}
}
