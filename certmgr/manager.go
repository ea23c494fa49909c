package certmgr

import (
	"context"
	"crypto/tls"
	"crypto/x509/pkix"
	"math"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/cache"
	"github.com/nostall/nostall/internal/acmeclient"
)

// DefaultACMEDirectory is the directory that is used without Manager.Client:
// Let's Encrypt's for production.
const DefaultACMEDirectory = "https://acme-v02.api.letsencrypt.org/directory"

// AcceptTOS is a Manager.Prompt that accepts the CA's terms of service.
func AcceptTOS(tosURL string) bool { return true }

// Cache keeps certificates, the account key, challenge answers and failures
// over restarts, and shares them between machines. See package cache for the
// contract; any autocert.Cache is one.
type Cache = cache.Cache

// DirCache is a Cache in a directory, compatible with autocert.DirCache.
type DirCache = cache.Dir

// Manager obtains, keeps and renews certificates by ACME (RFC 8555) and serves
// them to TLS handshakes, none of which ever waits for a CA beyond its bound.
//
// Its fields may be set until the first call of GetCertificate, Start, Obtain
// or Renew, and must not be changed after it; the zero value allows no host. A
// Manager must not be copied after first use. All methods are safe for
// concurrent use. For durations and numbers zero means the default, and
// negative means off.
type Manager struct {
	// Prompt is asked to accept the CA's terms of service, whose URL it gets,
	// before an account is registered. AcceptTOS accepts always.
	Prompt func(tosURL string) bool

	// Cache keeps what has to survive a restart. Without one (nil), each
	// start issues again, which soon meets the CA's rate limits.
	Cache Cache

	// HostPolicy is asked for hosts that Hosts does not hold. Its error is
	// what the handshake gets, unchanged. If both are nil no host is allowed;
	// AllowAnyHost allows all.
	HostPolicy HostPolicy

	// RenewBefore is how long before its end a certificate is renewed if the CA
	// suggests no time (RFC 9773), or cannot be asked. Zero
	// means with a third of the lifetime left, but 30 days at most, and with
	// half of it left for lifetimes under 10 days. No setting renews within
	// the first half of a lifetime.
	RenewBefore time.Duration

	// Client says how to speak to the CA: DirectoryURL, HTTPClient, Key,
	// UserAgent and RetryBackoff are used, and it is never changed. Nil means
	// DefaultACMEDirectory. Without a Key the account key is kept in Cache.
	Client *acme.Client

	// Email is the account's contact address. An account that the CA has under
	// another one is updated at the first use after a start; if that fails it is
	// an event, and tried again at the next start. Empty changes nothing.
	Email string

	// ForceRSA is ignored, as in autocert.
	//
	// Deprecated: the key type is chosen by what each client supports.
	ForceRSA bool

	// ExtraExtensions are added to certificate requests.
	ExtraExtensions []pkix.Extension

	// ExternalAccountBinding ties the account to one that the CA knows
	// otherwise (RFC 8555, section 7.3.4). Some CAs need it.
	ExternalAccountBinding *acme.ExternalAccountBinding

	// Hosts is the explicit list of hosts that are served. It may be changed
	// at any time by its methods; nil is an empty list.
	Hosts *Allowlist

	// KeepKey makes each renewal keep the private key of the certificate in
	// memory that it renews, for those whose clients pin it. By default every
	// certificate has a new key. The key of a certificate that was revoked is not
	// kept.
	KeepKey bool

	// PolicyTTL is how long a yes of HostPolicy holds for a host whose
	// certificate is in memory before the policy is asked again, in the
	// background. Default 1 minute; negative: asked in each handshake.
	PolicyTTL time.Duration

	// Audit gets an event for every change of state: one at a time, in order,
	// in a goroutine of its own. If it is slow, events beyond 4,096 are
	// dropped and counted. While it is nil failures go to slog.Default().
	Audit func(context.Context, Event)

	// HandshakeWait is how long the handshake that begins an issuance waits
	// for it. Default 10 s; negative: not at all. The issuance goes on.
	HandshakeWait time.Duration

	// InFlightWait is how long other handshakes for that host wait. Default:
	// not at all.
	InFlightWait time.Duration

	// MaxWaiting is how many handshakes may wait in all: for issuances, and
	// for cache reads and policy calls that others began. One host may have
	// half of them. Default 1,000; negative: none.
	MaxWaiting int

	// MaxIssuing is how many issuances run at the same time. Default 16;
	// negative: no limit.
	MaxIssuing int

	// Backoff is the waits after 1, 2, 3 ... failures in a row of a host; the
	// last one repeats. They get 10 percent of jitter, and last 1 s at least.
	// Default: 1 min, 10 min, then hourly for a day, then daily.
	Backoff []time.Duration

	// StartPace is the time between two certificates that Start has issued for
	// new hosts, after the first 150. It goes with at most 25 at once and one
	// each 7 hours for the names below one registered domain. Default 72 s: half
	// of what Let's Encrypt allows. Negative: no pace, for a CA without limits.
	StartPace time.Duration

	// Preflight checks that a host's name leads to this server before an order is
	// spent on it, by what the CA will do: resolve the name and ask each address
	// for the answer to a challenge with a random token. It takes 5 s at most,
	// while the issuance holds its slot. The zero value, PreflightOff, makes no
	// connection at all.
	Preflight PreflightMode

	// PreflightResolver looks names up for Preflight, and for nothing else. It
	// should see what the CA sees: not a hosts file, not an internal zone. Nil
	// means net.DefaultResolver. It may be called concurrently.
	PreflightResolver Resolver

	// PreflightDial makes the connections of Preflight, and no others: network is
	// "tcp", address an IP address with port 443 or 80. Nil means a net.Dialer.
	// Set it where this machine reaches its own public addresses by a detour. It
	// may be called concurrently.
	PreflightDial func(ctx context.Context, network, address string) (net.Conn, error)

	once      sync.Once
	stages    *stages // made by init
	useHTTP01 atomic.Bool
	clock     func() time.Time // nil: time.Now; for tests of a clock that is wrong
}

// stages are what a handshake passes through and what works behind it. Each
// has a lock of its own, which is never held while anything blocks.
type stages struct {
	settings   *settings
	now        func() time.Time
	dir        string // directory URL
	tasks      *tasks
	audit      *auditor
	handshakes *handshakes
	reports    *coalescer
	visits     *visits
	issuances  *issuances
	callouts   []*callouts
	policy     *policy
	challenges *challenges
	memory     *memory
	store      *store
	loader     *loader
	failures   *failures
	pacer      *pacer
	waiters    *waiters
	issues     *flight[*certificate]
	revokes    *flight[struct{}]
	strangers  atomic.Int32 // issuances in flight for hosts that nobody vouched for; counted by begin
	unlisted   atomic.Int32 // the same for all that Hosts does not hold by their exact names
	issuer     *issuer
	renewals   *renewals
	progress   *progress
	startPace  *startPace
	unwatch    func()
	closing    atomic.Bool
	closed     chan struct{} // closed when Close is done
}

// Bounds on callbacks that run at the same time. Those that ignore their
// context hold a place until they return.
const (
	maxReads      = 4096
	maxTokenReads = 256
	maxOpenReads  = 1024
	maxWrites     = 1024
	maxPolicies   = 1024
)

func (m *Manager) init() { m.once.Do(m.build) }

func (m *Manager) build() {
	set := newSettings(m)
	s := &stages{settings: set, now: m.clock, tasks: newTasks(), memory: newMemory(), failures: newFailures(), pacer: newPacer(), issuances: newIssuances(),
		closed: make(chan struct{})}
	if s.now == nil {
		s.now = time.Now
	}
	s.audit = &auditor{hook: func() func(context.Context, Event) { return m.Audit }, now: s.now}
	s.handshakes = &handshakes{settings: set, audit: s.audit}
	s.visits = newVisits(m.Hosts, func() { s.tasks.Go(s.keepVisits) })
	s.waiters = &waiters{limit: set.maxWaiting}
	s.reports = &coalescer{audit: s.audit, listed: func(host string) bool { return set.listed(host) == vetted }}
	s.store = &store{settings: set, audit: s.audit, reports: s.reports, tasks: s.tasks, reads: s.callout("Cache.Get", maxReads).failFast(cacheTimeout),
		tokens: s.callout("Cache.Get", maxTokenReads).failFast(cacheTimeout), others: s.callout("Cache.Get", maxOpenReads).failFast(cacheTimeout),
		writes: s.callout("Cache.Put or Delete", maxWrites), flight: newFlight[[]byte](s.tasks, s.waiters)}
	s.policy = &policy{settings: set, reports: s.reports, calls: s.callout("HostPolicy", maxPolicies).failFast(policyTimeout), flight: newFlight[standing](s.tasks, s.waiters)}
	s.challenges = newChallenges(s.store)
	s.issues = newFlight[*certificate](s.tasks, s.waiters)
	s.revokes = newFlight[struct{}](s.tasks, s.waiters)
	s.renewals = newRenewals(s)
	s.progress = &progress{audit: s.audit}
	s.startPace = &startPace{every: set.startPace}
	s.buildIssuer()
	s.loader = &loader{now: s.now, store: s.store, memory: s.memory, failures: s.failures, issuer: s.issuer, audit: s.audit, reports: s.reports,
		dir: s.dir, loaded: s.renewals.loaded, flight: newFlight[*certificate](s.tasks, s.waiters)}
	s.unwatch = func() {}
	if set.hosts != nil {
		s.unwatch = set.hosts.watch(s.hostsChanged)
		if set.hosts.file != nil {
			looks := s.callout("looking at the allowlist file", 1)
			s.tasks.Go(func(ctx context.Context) { s.watchHostsFile(ctx, looks) })
		}
	}
	m.stages = s
}

func (s *stages) buildIssuer() {
	client := &s.settings.client
	s.dir = client.DirectoryURL
	ca := acmeclient.New(acmeclient.Config{
		DirectoryURL: s.dir,
		HTTPClient:   client.HTTPClient,
		UserAgent:    client.UserAgent,
		RetryBackoff: client.RetryBackoff,
		Now:          s.now,
	})
	s.issuer = &issuer{settings: s.settings, now: s.now, tasks: s.tasks, audit: s.audit, store: s.store, memory: s.memory,
		failures: s.failures, issuances: s.issuances, visits: s.visits, challenges: s.challenges, ca: ca, dir: s.dir, machine: machineName(), locker: new(processLock),
		schedule: s.renewals.issued, drop: s.dropHost, slots: &slots{limit: s.settings.maxIssuing}, breaker: newBreaker(s.dir, s.audit, s.now)}
	s.issuer.calls = s.callout("issuance", math.MaxInt) // MaxIssuing bounds them
	s.issuer.calls.grace = time.Second                  // its error says more than that it is late
	s.issuer.preflight = &preflight{settings: s.settings, challenges: s.challenges, skew: s.issuer.skew,
		lookups: s.callout("PreflightResolver", maxLookups).failFast(lookupTimeout),
		dials:   s.callout("PreflightDial", maxDials).failFast(probeTimeout)}
	s.issuer.accounts = &accounts{settings: s.settings, ca: ca, dir: s.dir, key: client.Key, store: s.store, tasks: s.tasks, audit: s.audit,
		prompt: s.callout("Prompt", 1).failFast(registerTimeout), calls: s.callout("account registration", 1).failFast(registerTimeout),
		changes: s.callout("account key change", 1).failFast(changeKeyTimeout + lookUpTimeout),
		updates: s.callout("account update", 1), flight: newFlight[*account](s.tasks, s.waiters)}
}

// callout makes the bounds for one kind of callback and has Close wait for it.
func (s *stages) callout(name string, limit int) *callouts {
	c := newCallouts(name, limit)
	s.callouts = append(s.callouts, c)
	return c
}

// TLSConfig returns a configuration for servers with HTTP/2, HTTP/1.1 and
// tls-alpn-01, whose certificates come from GetCertificate.
func (m *Manager) TLSConfig() *tls.Config {
	return &tls.Config{
		GetCertificate: m.GetCertificate,
		NextProtos:     []string{"h2", "http/1.1", acme.ALPNProto},
	}
}
