package main

import (
	"context"
	"crypto/tls"
	"net/http"
	"slices"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// subject is one of the compared packages. Its methods are called in this
// order: fill and start by one goroutine, get by many. It is never closed: it
// ends with the process.
type subject interface {
	// fill writes certificates to the cache that the subject reads.
	fill(ctx context.Context, s site, entries []entry) error
	// start makes the manager.
	start(s site) error
	// get is its GetCertificate.
	get(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// tlsConfig returns the configuration for a server that answers
	// tls-alpn-01.
	tlsConfig() *tls.Config
}

// site is the configuration of a subject.
type site struct {
	hosts       []string                            // the names that it serves
	policy      func(context.Context, string) error // replaces the list, if not nil
	nonBlocking bool                                // the policy may be declared not to block
	ca          *acmetest.Server
	port        int // where a server with tlsConfig listens, on 127.0.0.1
}

// trust makes net/http's default transport trust the CA, since most programs
// leave the HTTP client to the package.
func (s site) trust() {
	http.DefaultTransport.(*http.Transport).TLSClientConfig = s.ca.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
}

// contestant is a subject with its name.
type contestant struct {
	name   string
	module string // its version is reported; empty if there is none
	make   func() subject
	issues bool // it can get certificates from a CA
}

// contestants returns all of them, in the order in which they take turns.
func contestants() []contestant {
	return []contestant{
		{"certmgr", "github.com/nostall/nostall", func() subject { return new(certmgrSubject) }, true},
		{"autocert", "golang.org/x/crypto", func() subject { return new(autocertSubject) }, true},
		{"certmagic", "github.com/caddyserver/certmagic", func() subject { return new(certmagicSubject) }, true},
		{"static", "", func() subject { return new(staticSubject) }, false},
	}
}

// contestantNamed returns nil if there is none.
func contestantNamed(name string) *contestant {
	all := contestants()
	i := slices.IndexFunc(all, func(c contestant) bool { return c.name == name })
	if i < 0 {
		return nil
	}
	return &all[i]
}
