package acmetest

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A Server is a fake ACME CA. Create it with [NewServer], [NewMemoryServer] or [NewUnstartedServer] and end it with
// [Server.Close]. All methods may be called concurrently; the exported fields must not change once it is started.
type Server struct {
	// URL is the URL of the directory. It is set by Start and StartMemory.
	URL string

	// Lifetime is the time from NotBefore to NotAfter of an issued certificate; zero means 90 days. NotBefore is
	// backdated by an hour, as Let's Encrypt does, but by no more than a tenth of the lifetime.
	Lifetime time.Duration

	// Terms is the URL of the terms of service; empty means that there are none. With terms, an account
	// that does not agree is refused. See ChangeTerms.
	Terms string

	// EAB holds the MAC keys for external account binding by key identifier. If it is not nil, a binding is required.
	EAB map[string][]byte

	// Challenges are the challenge types that each authorization offers, in this order; nil means tls-alpn-01,
	// http-01 and dns-01. A wildcard is offered dns-01 alone, and an IP address is not offered it.
	Challenges []string

	// ReuseAuthorizations lets a new order use an account's valid authorizations again, as public CAs do. False
	// means that every order needs a validation of each name.
	ReuseAuthorizations bool

	// OrdersPerPage is how many orders a page of an account's list of orders holds; zero means 100.
	OrdersPerPage int

	// ValidateInReply holds the reply to an accepted challenge back until its validation is over, as some CAs do, so that
	// it says "valid" or "invalid". False means a reply at once, which says "processing".
	ValidateInReply bool

	// Processing is how long a finalized order stays in state "processing"; zero means that finalizing answers with
	// the certificate's URL.
	Processing time.Duration

	// Profiles are the kinds of certificates that an order may ask for, by name; nil means that there are none. See
	// LetsEncryptProfiles.
	Profiles map[string]Profile

	// DefaultProfile is the profile of an order that asks for none: a key of Profiles, or empty for an order without a
	// profile, whose certificate follows the fields of the server.
	DefaultProfile string

	// AlternateChains is how many more chains each certificate is offered with, by links with the relation "alternate"
	// (RFC 8555, section 7.4.2). Each leads to a root of its own: see AlternateRoots.
	AlternateChains int

	// NoRenewalInfo makes it a CA without renewal information (RFC 9773): the directory does not offer it, and an
	// order's "replaces" is ignored.
	NoRenewalInfo bool

	// RateLimits are limits on what clients ask for; nil means none. See LetsEncryptRateLimits.
	RateLimits *RateLimits

	// RetryAfterDates makes the CA write each Retry-After that it thinks of itself as a date by its clock (RFC 9110,
	// section 10.2.3), and not in seconds. What the method RetryAfter or a fault sets stays as it is.
	RetryAfterDates bool

	base     string // scheme and host of every URL
	ca       *authority
	client   *http.Client
	listener *listener // nil in memory

	nonces  nonces
	faults  faults
	hosts   hostFaults
	names   names
	txt     txtRecords
	journal journal

	skew    atomic.Int64 // of the CA's clock, in nanoseconds
	changes broadcast    // of the journal and the state

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	tasks  tasks

	mu     sync.Mutex // guards state and limits; never held across validation, signing or a callback
	state  state
	limits limiter
}

// NewServer starts a CA on a free loopback port, over HTTPS.
func NewServer() *Server {
	s := NewUnstartedServer()
	s.Start()
	return s
}

// NewMemoryServer starts a CA without any socket: only [Server.Client] reaches it. Within a testing/synctest bubble
// create it inside of the bubble, and close it there.
func NewMemoryServer() *Server {
	s := NewUnstartedServer()
	s.StartMemory()
	return s
}

// NewUnstartedServer returns a CA whose fields may still be set; then call Start or StartMemory.
func NewUnstartedServer() *Server {
	ctx, cancel := context.WithCancel(context.Background())
	s := &Server{ctx: ctx, cancel: cancel, ca: newAuthority()}
	s.nonces.init()
	s.state.init()
	s.limits.init()
	s.journal.changes = &s.changes
	return s
}

// Start starts the CA on a free loopback port, over HTTPS. It panics if that is impossible or if the CA was started or
// closed before, as a test cannot go on then.
func (s *Server) Start() {
	s.mustBeNew()
	s.listener = newListener(s.ctx, http.HandlerFunc(s.serve))
	s.client = s.listener.client()
	s.setBase("https://" + s.listener.addr())
}

// StartMemory starts the CA without any socket. It panics if the CA was started or closed before.
func (s *Server) StartMemory() {
	s.mustBeNew()
	// The name never resolves, so a client other than Client() fails instead of reaching something real. The random
	// part keeps the URLs of two servers apart.
	id := make([]byte, 4)
	rand.Read(id)
	host := "acmetest-" + hex.EncodeToString(id) + ".invalid"
	s.client = &http.Client{Transport: &memoryTransport{
		tasks:   &s.tasks,
		ctx:     s.ctx,
		host:    host,
		handler: http.HandlerFunc(s.serve),
	}}
	s.setBase("https://" + host)
}

func (s *Server) mustBeNew() {
	switch {
	case s.ctx == nil:
		panic("acmetest: make servers with NewServer, NewMemoryServer or NewUnstartedServer")
	case s.URL != "":
		panic("acmetest: the server was started before")
	case s.ctx.Err() != nil:
		panic("acmetest: the server was closed before")
	}
	for _, typ := range s.Challenges {
		if !slices.Contains(challengeTypes(), typ) {
			panic("acmetest: unknown challenge type " + typ)
		}
	}
	s.checkProfiles()
	s.ca.crossSign(s.AlternateChains)
}

func (s *Server) setBase(base string) {
	s.base = base
	s.state.terms = s.Terms
	s.URL = base + pathDirectory
}

// Client returns the client that reaches the CA: it trusts the certificate of its listener, or calls it in memory.
// Every call returns the same client; it is nil before the start.
func (s *Server) Client() *http.Client { return s.client }

// Roots returns a new pool with the root that the issued certificates lead to.
func (s *Server) Roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(s.ca.root)
	return pool
}

// Close ends the CA: requests that are being handled or stalled, validations, the listener and its connections. It
// returns when all goroutines of the server have ended, and may be called more than once.
//
// Close waits for the callbacks of a [Target] that are running. Their contexts have ended by then.
// Over a listener, the goroutines of net/http's own clients end a moment later, and that of a reply whose body the test
// neither reads nor closes stays: closing it is the test's duty, as always.
func (s *Server) Close() {
	s.tasks.refuse()
	s.cancel()
	if s.listener != nil {
		s.listener.close()
	}
	s.tasks.wait()
}
