package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
)

// certmagicSubject is certmagic on demand.
type certmagicSubject struct {
	storage memoryStorage
	config  *certmagic.Config
}

var errNotListed = errors.New("not on the list")

func (s *certmagicSubject) fill(ctx context.Context, site site, entries []entry) error {
	issuer := (&certmagic.ACMEIssuer{CA: site.ca.URL}).IssuerKey()
	for _, e := range entries {
		meta, err := json.MarshalIndent(certmagic.CertificateResource{SANs: []string{e.Host}}, "", "\t")
		if err != nil {
			return err
		}
		keys := certmagic.StorageKeys
		for key, value := range map[string][]byte{
			keys.SitePrivateKey(issuer, e.Host): e.Key,
			keys.SiteCert(issuer, e.Host):       e.Chain,
			keys.SiteMeta(issuer, e.Host):       meta,
		} {
			if err := s.storage.Store(ctx, key, value); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *certmagicSubject) start(site site) error {
	// Its own limit would dominate: see the package comment.
	certmagic.RateLimitEvents, certmagic.RateLimitEventsWindow = 10_000, time.Second

	logger := zap.NewNop()
	decide := site.policy
	if decide == nil {
		listed := make(map[string]struct{}, len(site.hosts))
		for _, host := range site.hosts {
			listed[host] = struct{}{}
		}
		decide = func(_ context.Context, host string) error {
			if _, ok := listed[host]; !ok {
				return errNotListed
			}
			return nil
		}
	}
	cache := certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert: func(certmagic.Certificate) (*certmagic.Config, error) { return s.config, nil },
		Logger:           logger,
	})
	s.config = certmagic.New(cache, certmagic.Config{
		Storage:  &s.storage,
		OnDemand: &certmagic.OnDemandConfig{DecisionFunc: decide},
		Logger:   logger,
	})
	s.config.Issuers = []certmagic.Issuer{certmagic.NewACMEIssuer(s.config, certmagic.ACMEIssuer{
		CA:           site.ca.URL,
		TrustedRoots: site.ca.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs,
		Email:        "bench@example.com", // otherwise it asks on the terminal
		Agreed:       true,
		// It finds the port in use and assumes that the server there answers
		// the challenges.
		DisableHTTPChallenge: true,
		ListenHost:           "127.0.0.1",
		AltTLSALPNPort:       site.port,
		Logger:               logger,
	})}
	return nil
}

func (s *certmagicSubject) get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	return s.config.GetCertificate(hello)
}

func (s *certmagicSubject) tlsConfig() *tls.Config { return s.config.TLSConfig() }
