package main

import (
	"context"
	"crypto/tls"
	"slices"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/cache"
)

// handshakeWait is longer than the default, so that a pause of the machine of
// 10 s fails no measurement. It is only a bound and slows nothing down.
const handshakeWait = childTimeout

// certmgrSubject is certmgr with its defaults.
type certmgrSubject struct {
	cache   cache.Memory
	manager *certmgr.Manager
}

func (s *certmgrSubject) fill(ctx context.Context, _ site, entries []entry) error {
	return fillAutocertCache(ctx, &s.cache, entries)
}

// fillAutocertCache writes entries in the format of autocert and certmgr.
func fillAutocertCache(ctx context.Context, c cache.Cache, entries []entry) error {
	for _, e := range entries {
		if err := c.Put(ctx, e.Host, slices.Concat(e.Key, e.Chain)); err != nil {
			return err
		}
	}
	return nil
}

func (s *certmgrSubject) start(site site) error {
	s.manager = &certmgr.Manager{
		Prompt: certmgr.AcceptTOS,
		Cache:  &s.cache,
		Client: &acme.Client{DirectoryURL: site.ca.URL},
		Audit:  func(context.Context, audit.Event) {},

		HandshakeWait: handshakeWait,
	}
	if site.policy != nil {
		s.manager.HostPolicy = site.policy
		if site.nonBlocking {
			s.manager.HostPolicy = certmgr.NonBlocking(site.policy)
		}
		return nil
	}
	var err error
	s.manager.Hosts, err = certmgr.NewAllowlist(site.hosts...)
	return err
}

func (s *certmgrSubject) get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	return s.manager.GetCertificate(hello)
}

func (s *certmgrSubject) tlsConfig() *tls.Config { return s.manager.TLSConfig() }
