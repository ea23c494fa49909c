package certmgr

import (
	"cmp"
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509/pkix"
	"fmt"
	"math"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/preflight"
	"github.com/nostall/nostall/internal/bundle"
	"github.com/nostall/nostall/internal/hosts"
	"github.com/nostall/nostall/internal/pace"
	"github.com/nostall/nostall/internal/text"
)

// settings holds the fields of a Manager as of its first use, with defaults
// applied; a duration or number that is off is zero here. Components hold
// settings rather than the Manager, so they cannot reach each other through it.
// Only the target of http01 changes.
type settings struct {
	prompt                 func(tosURL string) bool
	cache                  Cache       // nil if there is none
	client                 acme.Client // key, HTTP client, directory, user agent and retry backoff
	plainHTTP              bool
	hosts                  *hostList // nil if empty
	profile                string
	profiles               profileSettings
	hostSettings           hostSettings
	unnamed                unnamed
	hostPolicy             HostPolicy // nil if there is none
	policyTTL              time.Duration
	maxPolicyAge           time.Duration
	renewBefore            time.Duration // 0 means by the lifetime
	email                  string
	extraExtensions        []pkix.Extension
	externalAccountBinding *acme.ExternalAccountBinding
	handshakeWait          time.Duration
	prefetchWait           time.Duration // the same for a hello without a context
	inFlightWait           time.Duration
	maxWaiting             int
	maxIssuing             int
	backoff                []time.Duration // empty means the default
	preflight              preflight.Mode
	preflightResolver      preflight.Resolver // nil means net.DefaultResolver
	preflightDial          func(ctx context.Context, network, addr string) (net.Conn, error)
	preflightAllow         []netip.Prefix
	keepKey                bool
	keyType                bundle.KeyType
	keySource              func(ctx context.Context, host string) (crypto.Signer, error) // nil if there is none
	badKeyType             error
	fallback               *fallback // nil if there is none that can be served
	badFallback            error
	certificates           CertificateSource // nil if there is none
	certificatesEvery      time.Duration
	issued                 func(context.Context, *tls.Certificate) // nil if there is none
	startPace              time.Duration
	orderBudget            int // orders in pace.AccountWindow
	machine                string
	lease                  time.Duration
	badLease               error
	http01                 *atomic.Bool // HTTPHandler was called
}

func newSettings(m *Manager) *settings {
	set := &settings{
		prompt:                 m.Prompt,
		cache:                  m.Cache,
		plainHTTP:              m.PlainHTTP,
		hosts:                  m.Hosts.hostList(),
		profile:                m.Profile,
		hostSettings:           newHostSettings(m.HostSettings),
		unnamed:                newUnnamed(m),
		hostPolicy:             m.HostPolicy,
		policyTTL:              orDefault(m.PolicyTTL, time.Minute),
		maxPolicyAge:           max(m.MaxPolicyAge, 0),
		renewBefore:            m.RenewBefore,
		email:                  m.Email,
		extraExtensions:        m.ExtraExtensions,
		externalAccountBinding: m.ExternalAccountBinding,
		handshakeWait:          orDefault(m.HandshakeWait, 10*time.Second),
		prefetchWait:           orDefault(m.HandshakeWait, prefetchWait),
		inFlightWait:           max(m.InFlightWait, 0),
		maxWaiting:             orDefault(m.MaxWaiting, 1000),
		maxIssuing:             orDefault(m.MaxIssuing, 64),
		backoff:                m.Backoff,
		preflight:              m.Preflight,
		preflightResolver:      m.PreflightResolver,
		preflightDial:          m.PreflightDial,
		preflightAllow:         m.PreflightAllow,
		keepKey:                m.KeepKey,
		keyType:                m.KeyType.or(bundle.P256),
		certificates:           m.Certificates,
		certificatesEvery:      orDefault(m.CertificatesEvery, ownEvery),
		keySource:              m.KeySource,
		issued:                 m.Issued,
		startPace:              orDefault(m.StartPace, pace.OrderEvery),
		http01:                 &m.useHTTP01,
		machine:                machineName(m.Machine),
	}
	set.lease, set.badLease = leaseOf(m.Lease)
	if !m.KeyType.isValid() {
		set.badKeyType = badSettings([]string{fmt.Sprintf("Manager.KeyType is %v, which does not exist; P256 is used", m.KeyType)})
	}
	set.profiles = newProfileSettings(m.Profile, set.hostSettings.byKey)
	if m.MaxIssuing < 0 {
		set.maxIssuing = math.MaxInt
	}
	if c := m.Client; c != nil { // copy only the fields in use
		set.client = acme.Client{
			Key:          c.Key,
			HTTPClient:   c.HTTPClient,
			RetryBackoff: c.RetryBackoff,
			DirectoryURL: c.DirectoryURL,
			UserAgent:    c.UserAgent,
		}
	}
	set.fallback, set.badFallback = newFallback(m.Fallback, newClock(m.clock).now())
	set.client.DirectoryURL = cmp.Or(set.client.DirectoryURL, DefaultACMEDirectory)
	set.orderBudget = orDefault(m.OrderBudget, defaultOrderBudget(set.client.DirectoryURL))
	set.client.UserAgent = cmp.Or(set.client.UserAgent, "nostall-certmgr")
	return set
}

// orDefault returns v, def if v is zero, and zero if it is negative.
func orDefault[T int | time.Duration](v, def T) T {
	if v == 0 {
		return def
	}
	return max(v, 0)
}

// backoffFor returns the wait after the given number of consecutive failures,
// while cert is in service, or nothing is.
func (set *settings) backoffFor(failures int, cert *certificate) time.Duration {
	if cert == nil {
		return pace.Backoff(set.backoff, failures)
	}
	return pace.BackoffOfRenewal(set.backoff, failures, lifetimeOf(cert))
}

// trustOf returns the trust that the allowlist alone puts in a host.
func (set *settings) trustOf(host string) trust {
	switch set.hosts.match(host) {
	case hosts.Exact:
		return listed
	case hosts.Wildcard:
		return untrusted
	}
	return notAllowed
}

// isNamed reports whether Hosts or HostWhitelist has a host's exact name: then
// no stranger has made it up.
func (set *settings) isNamed(host string) bool {
	if set.trustOf(host) == listed {
		return true
	}
	return set.hostPolicy != nil && isWhitelist(set.hostPolicy) && set.hostPolicy(context.Background(), host) == nil
}

// isStrangers reports whether an event is about a host that a stranger may have
// made up. In some events the host
// is the operator's, or only an example.
func (set *settings) isStrangers(e audit.Event) bool {
	switch e.Kind {
	case audit.HostListed, audit.HostUnlisted, audit.GroupChanged, audit.PolicyFailed, audit.CAUnavailable, audit.CAAvailable,
		audit.OwnCertificateLoaded, audit.OwnCertificateRejected, audit.OwnCertificateRemoved, audit.OwnCertificateExpiring,
		audit.AccountUnavailable, audit.AccountAvailable, audit.OperatorAction, audit.OperatorActionFailed:
		return false
	}
	return e.Host != "" && !set.isNamed(e.Host)
}

// allowsNobody reports whether the Manager has neither a list nor a policy, which
// is so for ever. A list that is empty may be filled later.
func (set *settings) allowsNobody() bool { return set.hosts == nil && set.hostPolicy == nil }

// invalid says which settings cannot work, as far as that can be told without
// the CA: an error that wraps ErrBadSetting, or nil. All others apply.
func (set *settings) invalid() error {
	return text.Join(set.hostSettings.err, set.badKeyType, set.badFallback, set.badLease)
}

// servesNobody reports whether there are no certificates of the operator's own
// either.
func (set *settings) servesNobody() bool { return set.allowsNobody() && set.certificates == nil }

// decider names what decides about hosts that are not in Hosts.
func (set *settings) decider() string {
	if set.hostPolicy != nil {
		return "HostPolicy"
	}
	return "Hosts"
}
