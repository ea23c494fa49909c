package main

import (
	"context"
	"crypto/tls"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"

	"github.com/nostall/nostall/certmgr/cache"
)

// autocertSubject is autocert with its defaults. It has no cache in memory, and
// uses certmgr's.
type autocertSubject struct {
	cache   cache.Memory
	manager *autocert.Manager
}

func (s *autocertSubject) fill(ctx context.Context, _ site, entries []entry) error {
	return fillAutocertCache(ctx, &s.cache, entries)
}

func (s *autocertSubject) start(site site) error {
	s.manager = &autocert.Manager{
		Prompt:     autocert.AcceptTOS,
		Cache:      &s.cache,
		Client:     &acme.Client{DirectoryURL: site.ca.URL},
		HostPolicy: site.policy,
	}
	if site.policy == nil {
		s.manager.HostPolicy = autocert.HostWhitelist(site.hosts...)
	}
	return nil
}

func (s *autocertSubject) get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	return s.manager.GetCertificate(hello)
}

func (s *autocertSubject) tlsConfig() *tls.Config { return s.manager.TLSConfig() }
