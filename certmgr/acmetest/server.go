package acmetest

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// A Server is a fake ACME CA. Create it with [NewServer], [NewMemoryServer] or
// [NewUnstartedServer] and end it with [Server.Close]. All methods are safe for
// concurrent use. The exported fields must not change once it is started: then
// requests are refused and methods panic.
type Server struct {
	// URL is the URL of the directory. It is set by Start and StartMemory, and
	// leads nowhere before. The port of a closed server may become that of a later one: for a client that
	// keeps directories by URL for the whole process, append a query of your own.
	URL string

	// Lifetime is the time from NotBefore to NotAfter of an issued certificate;
	// zero means 90 days. NotBefore is backdated by an hour, like at Let's
	// Encrypt, but by at most a tenth of the lifetime.
	Lifetime time.Duration

	// Terms is the URL of the terms of service; empty means none. With terms,
	// an account that does not agree is refused. See ChangeTerms.
	Terms string

	// EAB holds the MAC keys for external account binding, by key identifier.
	// If it is not nil, a binding is required.
	EAB map[string][]byte

	// Challenges lists the challenge types that each authorization offers, in
	// this order; nil means tls-alpn-01, http-01 and dns-01. A wildcard is
	// offered only dns-01, and an IP address never dns-01.
	Challenges []string

	// ReuseAuthorizations lets new orders reuse an account's valid
	// authorizations, as public CAs do. False means that every order validates
	// each name.
	ReuseAuthorizations bool

	// OrdersPerPage is the number of orders on a page of an account's orders
	// list; zero means 100.
	OrdersPerPage int

	// ValidateInReply delays the reply to an accepted challenge until its
	// validation has ended, as some CAs do, so that it says "valid" or
	// "invalid". Otherwise an immediate reply says "processing", as at Let's
	// Encrypt, and a client that looks too early sleeps for a second or more
	// before it looks again. ByDefault means in testing/synctest bubbles, where
	// it makes the course of a test the same in each run, but not while
	// SlowValidation applies.
	ValidateInReply When

	// Processing is how long a finalized order stays in state "processing";
	// zero means that the reply to finalize already has the certificate's URL.
	Processing time.Duration

	// Profiles are the kinds of certificates that an order may request, by
	// name; nil means none. See LetsEncryptProfiles.
	Profiles map[string]Profile

	// DefaultProfile is the profile of an order that requests none: a key of
	// Profiles, or empty for an order without a profile, whose certificate
	// follows the server's fields.
	DefaultProfile string

	// AlternateChains is the number of additional chains of each certificate,
	// offered by links with the relation "alternate" (RFC 8555, section 7.4.2).
	// Each leads to its own root: see AlternateRoots.
	AlternateChains int

	// NoRenewalInfo disables renewal information (RFC 9773): the directory does
	// not offer it, and an order's "replaces" is ignored.
	NoRenewalInfo bool

	// RateLimits are the CA's rate limits; nil means none. See
	// LetsEncryptRateLimits.
	RateLimits *RateLimits

	// FinalizeLocation adds the order's URL, in a Location header, to replies to
	// finalize, as Let's Encrypt does and the examples of RFC 8555, section 7.4,
	// show. False means none, as with Pebble: the RFC does not require it, and a
	// client that needs it, such as CreateOrderCert of golang.org/x/crypto/acme
	// while the order is processing, does not work with every CA.
	FinalizeLocation bool

	// RequestedDates lets orders request the dates of their certificate by
	// notBefore and notAfter (RFC 8555, section 7.4), as step-ca does: a date
	// that is missing is chosen by the CA, every order shows both, and more than
	// the usual lifetime is refused. False means that orders with dates are
	// refused, as by Let's Encrypt.
	RequestedDates bool

	// RetryAfterDates makes the CA send its own Retry-After values as dates by
	// its clock (RFC 9110, section 10.2.3), not as seconds. Values set by the
	// method RetryAfter or a fault are not changed.
	RetryAfterDates bool

	// Listener is what Start listens on instead of a free loopback port, for a
	// URL that is known beforehand. It must be a TCP listener; the server closes
	// it. Whoever can connect to it can obtain certificates of this CA.
	Listener net.Listener

	// Hostname is the name or IP address in the URLs of a CA with a listener,
	// and one more in its certificate. Empty means the address of the listener,
	// or 127.0.0.1 if that is unspecified, as in ":14000".
	Hostname string

	// Root is the certificate and key of the root; nil means a new one for each
	// server. Set it where clients are configured to trust a root once and for
	// all: see NewRoot.
	Root *tls.Certificate

	// DNSServer is the host:port of the DNS server that dns-01 validations ask
	// for TXT records, instead of using those of AddTXT. It has to follow CNAME
	// records itself, as resolvers do.
	DNSServer string

	// OnRequest is called with each request after it was handled, also if it got
	// no reply, for a log of one's own; nil means nobody. It may run in several
	// goroutines, and the reply may not have reached the client yet.
	OnRequest func(Request)

	started []setField // the fields above; nil before the start
	origin  string     // the bubble of the start, or outside; empty before

	base   string // scheme and host of every URL
	ca     *authority
	client *http.Client
	front  front

	nonces  nonces
	begun   begunFaults
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

// When says in which cases a server does something.
type When int

// The cases.
const (
	ByDefault When = iota // as the documentation of the field says
	Always
	Never
)

// NewServer starts a CA on a free loopback port, over HTTPS.
func NewServer() *Server {
	s := NewUnstartedServer()
	s.Start()
	return s
}

// NewMemoryServer starts a CA without any socket: only [Server.Client] reaches
// it. To use it in a testing/synctest bubble, create and close it inside the
// bubble; its methods panic elsewhere.
func NewMemoryServer() *Server {
	s := NewUnstartedServer()
	s.StartMemory()
	return s
}

// NewUnstartedServer returns a CA whose fields may still be set; then call
// Start or StartMemory.
func NewUnstartedServer() *Server {
	ctx, cancel := context.WithCancel(context.Background())
	s := &Server{URL: notStarted, ctx: ctx, cancel: cancel, ca: newAuthority()}
	s.client = &http.Client{Transport: failingTransport{errNotStarted}}
	s.nonces.init()
	s.state.init()
	s.limits.init()
	s.journal.changes = &s.changes
	return s
}

// Start starts the CA on Listener or a free loopback port, over HTTPS. It
// panics if that fails, if the CA was started or closed before, or in a
// testing/synctest bubble, in which there is no network.
func (s *Server) Start() {
	s.mustBeNew()
	if inBubble() {
		panic("acmetest: there is no network in a synctest bubble: use NewMemoryServer or StartMemory")
	}
	ln, host := s.listen()
	s.client.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.Roots()}, DialContext: dialOnly(host)}
	s.setBase("https://" + host)
	s.front.open(s.ctx, ln)
}

// StartMemory starts the CA without any socket. It panics if the CA was started
// or closed before.
func (s *Server) StartMemory() {
	s.mustBeNew()
	// The name never resolves, so any client other than Client() fails instead
	// of reaching something real. The random part makes the URLs of two servers
	// different.
	id := make([]byte, 4)
	rand.Read(id)
	host := "acmetest-" + hex.EncodeToString(id) + ".invalid"
	s.client.Transport = &frontTransport{&s.front, s.mustBeInside, memoryTransport{
		tasks:   &s.tasks,
		host:    host,
		handler: http.HandlerFunc(s.serve),
	}}
	s.setBase("https://" + host)
	s.front.open(s.ctx, nil)
}

func (s *Server) mustBeNew() {
	switch {
	case s.ctx == nil:
		panic(notMade)
	case s.started != nil:
		panic("acmetest: the server was started before")
	case s.ctx.Err() != nil:
		panic("acmetest: the server was closed before")
	}
	for _, typ := range s.Challenges {
		mustBeChallengeType(typ)
	}
	s.checkProfiles()
	s.RateLimits.check()
	if s.Root != nil {
		s.ca = authorityOf(checkedRoot(s.Root))
	}
	s.ca.crossSign(s.AlternateChains)
}

func (s *Server) setBase(base string) {
	s.base = base
	s.state.terms = s.Terms
	s.URL = base + pathDirectory
	s.origin = bubble()
	s.started = s.copyFields()
}

// Client returns the client that reaches the CA: it trusts the CA's root, or
// calls the CA in memory. It reaches nothing else. It is always the same client,
// and its requests fail before the start.
func (s *Server) Client() *http.Client {
	if s.ctx == nil {
		return &http.Client{Transport: failingTransport{errors.New(notMade)}}
	}
	s.mustBeUsable()
	s.mustBeInside()
	return s.client
}

// Close ends the CA: requests in flight or stalled, validations, the listener
// and its connections. It returns when all goroutines of the server have ended,
// and may be called more than once.
//
// Close waits for running callbacks of a [Target], whose contexts have ended by
// then. Over a listener, the goroutines of net/http's own clients end a moment
// later. A client's goroutine stays if the test neither reads nor closes the
// reply's body, which is always the test's duty.
func (s *Server) Close() {
	if s.ctx == nil {
		panic(notMade)
	}
	s.mustBeInside()
	s.tasks.refuse()
	s.cancel()
	s.client.CloseIdleConnections()
	s.front.close()
	s.tasks.wait()
	s.mustBeUsable() // at the end, so that nothing is left running
}
