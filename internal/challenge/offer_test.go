package challenge_test

import (
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"testing"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/internal/challenge"
)

// handshake makes a real handshake with a server of this configuration, whose
// GetCertificate is get.
func handshake(config *tls.Config, get func(*tls.ClientHelloInfo)) {
	config.GetCertificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		get(hello)
		return nil, errors.New("no certificate")
	}
	c, s := net.Pipe()
	var client sync.WaitGroup
	client.Go(func() {
		tls.Client(c, &tls.Config{ServerName: "a.example.com"}).Handshake()
		c.Close()
	})
	tls.Server(s, config).Handshake()
	s.Close()
	client.Wait()
}

// Whether a server offers acme-tls/1 is told by the configuration of a handshake. If
// this fails with a new version of Go, package tls has another field for it.
func TestOfferIsSeenInAHandshake(t *testing.T) {
	other := func(*tls.ClientHelloInfo) (*tls.Config, error) { return nil, nil }
	with := func(more ...string) *tls.Config { return &tls.Config{NextProtos: more} }
	for _, test := range []struct {
		name    string
		configs []*tls.Config
		lacking bool
	}{
		{"nothing seen", nil, false},
		{"no protocols", []*tls.Config{with()}, true},
		{"others", []*tls.Config{with("h2", "http/1.1")}, true},
		{"offered", []*tls.Config{with("h2", acme.ALPNProto)}, false},
		{"by one of two, the first", []*tls.Config{with(acme.ALPNProto), with("h2")}, false},
		{"by one of two, the second", []*tls.Config{with("h2"), with(acme.ALPNProto)}, false},
		{"perhaps for a CA", []*tls.Config{{NextProtos: []string{"h2"}, GetConfigForClient: other}}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			var offer challenge.Offer
			for _, config := range test.configs {
				handshake(config, offer.Saw)
			}
			offer.Saw(&tls.ClientHelloInfo{ServerName: "a.example.com"}) // made by hand
			if got := offer.IsLacking(); got != test.lacking {
				t.Errorf("lacking: %v, want %v", got, test.lacking)
			}
		})
	}
}

// What the CA says counts unless a server is seen to offer the protocol.
func TestOfferAsTheCASays(t *testing.T) {
	var offer challenge.Offer
	if offer.Refused(); !offer.IsLacking() {
		t.Error("the CA's word does not count")
	}
	handshake(&tls.Config{NextProtos: []string{acme.ALPNProto}}, offer.Saw)
	if offer.IsLacking() {
		t.Error("a server offers it, which may be another one")
	}
}
