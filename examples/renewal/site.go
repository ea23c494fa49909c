package main

import (
	"context"
	"errors"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
)

// site is a server as in production, except for its CA and its network.
type site struct {
	ca    *acmetest.Server
	cache certmgr.Cache // survives a restart
	audit func(context.Context, audit.Event)

	certs *certmgr.Manager // of the running process
	end   context.CancelFunc
}

// start does what a server's main function does.
func (s *site) start() error {
	s.certs = &certmgr.Manager{
		Prompt: certmgr.AcceptTOS,
		Hosts:  certmgr.MustAllowlist(www, login),
		Cache:  s.cache,
		Client: &acme.Client{DirectoryURL: s.ca.URL, HTTPClient: s.ca.Client()},
		Audit:  s.audit,
	}
	s.leadHere(www, login)
	ctx, cancel := context.WithCancel(context.Background())
	s.end = cancel
	return s.certs.Start(ctx)
}

// stop ends the process, if it is running.
func (s *site) stop() error {
	if s.certs == nil {
		return nil
	}
	s.end()
	return s.certs.Close()
}

func (s *site) restart() error { return errors.Join(s.stop(), s.start()) }

// leadHere resolves names to the process, like DNS.
func (s *site) leadHere(hosts ...string) {
	for _, host := range hosts {
		s.ca.Resolve(host, acmetest.Target{TLSConfig: s.certs.TLSConfig()})
	}
}

// leadAway resolves a name to a machine that does not answer.
func (s *site) leadAway(host string) { s.ca.Resolve(host, acmetest.Target{}) }

// status returns the Manager's status of a name.
func (s *site) status(host string) certmgr.HostStatus {
	for _, status := range s.certs.Snapshot().Hosts {
		if status.Host == host {
			return status
		}
	}
	return certmgr.HostStatus{}
}
