package conformance

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"sync"
	"time"
)

// CA is a CA under test together with its validation targets. It has terms of
// service, at least one alternate chain, two profiles or more, and pages of
// three orders. A valid authorization is used for its order only.
type CA struct {
	// Directory is the URL of its directory.
	Directory string
	// Client sends requests to it. It should have a time-out.
	Client *http.Client
	// Roots are the roots of the default chain of its certificates.
	Roots *x509.CertPool
	// Profiles are the lifetimes of its profiles' certificates, by name.
	Profiles map[string]time.Duration
	// Bindings are the MAC keys of external accounts by key identifier. If not
	// nil, the CA requires a binding.
	Bindings map[string][]byte
	// Pebble is true for Pebble v2.10.1, whose deviations are expected.
	Pebble bool

	// Serve makes a DNS name or IP address lead to a handler for http-01 and to
	// a TLS server with this configuration for tls-alpn-01. If one is nil, its
	// port need not be closed, but must not answer the challenge.
	Serve func(name string, h http.Handler, config *tls.Config)
	// AddTXT adds a TXT record to a DNS name.
	AddTXT func(name, value string)
	// Address is an IP address for which Serve works, in the form of RFC 5952.
	Address string

	address sync.Mutex // held by the case that uses Address: there is only one
}
