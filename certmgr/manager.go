package certmgr

import (
	"context"
	"crypto/tls"
	"crypto/x509/pkix"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/cache"
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
	Audit func(context.Context, audit.Event)

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
	engine    *engine // made by init
	useHTTP01 atomic.Bool
	clock     func() time.Time // nil: time.Now; for tests of a clock that is wrong
}

func (m *Manager) init() { m.once.Do(func() { m.engine = newEngine(m) }) }

// TLSConfig returns a configuration for servers with HTTP/2, HTTP/1.1 and
// tls-alpn-01, whose certificates come from GetCertificate.
func (m *Manager) TLSConfig() *tls.Config {
	return &tls.Config{
		GetCertificate: m.GetCertificate,
		NextProtos:     []string{"h2", "http/1.1", acme.ALPNProto},
	}
}
