package main

import (
	"context"
	"crypto/tls"
	"errors"
	"runtime"

	"golang.org/x/sync/errgroup"
)

// staticSubject is a read-only map.
type staticSubject struct {
	entries []entry
	policy  func(context.Context, string) error
	certs   map[string]*tls.Certificate
}

var errNoCertificate = errors.New("no such certificate")

func (s *staticSubject) fill(_ context.Context, _ site, entries []entry) error {
	s.entries = entries
	return nil
}

// start parses all certificates.
func (s *staticSubject) start(site site) error {
	s.policy = site.policy
	certs := make([]tls.Certificate, len(s.entries))
	var all errgroup.Group
	all.SetLimit(runtime.GOMAXPROCS(0))
	for i, e := range s.entries {
		all.Go(func() (err error) {
			certs[i], err = tls.X509KeyPair(e.Chain, e.Key)
			return err
		})
	}
	if err := all.Wait(); err != nil {
		return err
	}
	s.certs = make(map[string]*tls.Certificate, len(certs))
	for i, e := range s.entries {
		s.certs[e.Host] = &certs[i]
	}
	return nil
}

func (s *staticSubject) get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if cert, ok := s.certs[hello.ServerName]; ok {
		return cert, nil
	}
	if s.policy != nil {
		if err := s.policy(hello.Context(), hello.ServerName); err != nil {
			return nil, err
		}
	}
	return nil, errNoCertificate
}

func (s *staticSubject) tlsConfig() *tls.Config { return &tls.Config{GetCertificate: s.get} }
