package certmgr

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509/pkix"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/cache"
	"github.com/nostall/nostall/certmgr/preflight"
)

// DefaultACMEDirectory is Let's Encrypt's production directory, used if
// Manager.Client names no other.
const DefaultACMEDirectory = "https://acme-v02.api.letsencrypt.org/directory"

// LetsEncryptStagingURL is the directory of Let's Encrypt's staging
// environment, for the DirectoryURL of Manager.Client. Try a new server with it
// first: its rate limits are higher than those of production, and its
// certificates are for tests only, since no browser trusts them. Those that are
// left in the Cache are replaced once DefaultACMEDirectory is configured.
const LetsEncryptStagingURL = "https://acme-staging-v02.api.letsencrypt.org/directory"

// AcceptTOS is a Manager.Prompt that always accepts the CA's terms of service.
func AcceptTOS(tosURL string) bool { return true }

// Cache stores certificates, the account key, challenge responses and failures
// across restarts, and shares them between machines. See package cache for the
// contract; any autocert.Cache is a Cache.
type Cache = cache.Cache

// DirCache is a Cache in a directory, compatible with autocert.DirCache.
type DirCache = cache.Dir

// Manager obtains, stores and renews certificates by ACME (RFC 8555) and serves
// them to TLS handshakes. No handshake waits for a CA beyond its limit.
//
// Set its fields before the first call of a method other than TLSConfig,
// Listener, HTTPHandler and ErrorLog, and do not change them afterwards; the
// zero value allows no host. A Manager must not be copied after first use. All
// methods are safe for concurrent use. For durations and numbers, zero means the
// default and negative means off.
type Manager struct {
	// Prompt is called with the URL of the CA's terms of service before an
	// account is registered, and returns whether to accept them. Otherwise none
	// is registered. AcceptTOS always accepts.
	Prompt func(tosURL string) bool

	// Cache stores what must survive a restart. Without one (nil), each start
	// issues again, which soon hits the CA's rate limits; a warning says so. A
	// certificate in it from a CA for tests, such as Let's Encrypt's staging
	// environment, is replaced at once by one of the configured CA.
	Cache Cache

	// HostPolicy is asked about hosts that are not in Hosts. The handshake gets
	// its error unchanged. If both are nil, no host is allowed; AllowAnyHost
	// allows all.
	HostPolicy HostPolicy

	// RenewBefore is how long before expiry a certificate is renewed if the CA
	// suggests no time (RFC 9773) or cannot be asked. Zero means with a third
	// of the lifetime left, but at most 30 days, and with half of it left for
	// lifetimes under 10 days. No setting renews within the first half of a
	// lifetime.
	RenewBefore time.Duration

	// Client configures the connection to the CA. Only DirectoryURL,
	// HTTPClient, Key, UserAgent and RetryBackoff are used, and Client is never
	// changed. Nil means DefaultACMEDirectory. Without a Key the account key is
	// stored in Cache. If HTTPClient is nil, http.DefaultClient is used; if that
	// has the default transport, with a copy of it that keeps up to 64 idle
	// connections. An HTTPClient is used as it is.
	Client *acme.Client

	// PlainHTTP allows plain http to a CA on another machine, if
	// Client.DirectoryURL is such a URL: anyone on the way can then read and
	// change what is sent, and have certificates issued or withheld. Without it,
	// http is only for loopback addresses and localhost. A CA with https is never
	// left for http.
	PlainHTTP bool

	// Email is the account's contact address, without "mailto:". Some CAs refuse
	// certain domains, such as example.com. If the CA has another address, the
	// account is updated at its first use after a start. A failure is an event,
	// and the update is retried at the next start. Empty changes nothing.
	Email string

	// ForceRSA is ignored, as in autocert.
	//
	// Deprecated: see KeyType.
	ForceRSA bool

	// KeyType is the type of key that is preferred for certificates. A client that
	// cannot verify it, by what its ClientHello says, gets a certificate of the
	// other algorithm, as before: with an RSA key of 2,048 bits, or P-256 if
	// KeyType is one of RSA. A host has at most one certificate for each
	// algorithm. Default P256.
	//
	// A change applies at the next renewal. Until then valid certificates with
	// other keys are served.
	KeyType KeyType

	// ExtraExtensions are added to certificate requests (CSRs).
	ExtraExtensions []pkix.Extension

	// ExternalAccountBinding binds the account to an existing account with the
	// CA (RFC 8555, section 7.3.4). Some CAs require it.
	ExternalAccountBinding *acme.ExternalAccountBinding

	// Hosts is the allowlist: the hosts to serve. It may be changed at any time
	// by its methods, and may be empty at first. Nil is a list that stays empty:
	// without a HostPolicy no host is ever allowed then. Start returns that as an
	// error, and the first use of any method warns of it.
	Hosts *Allowlist

	// Profile is the certificate profile that orders ask for, by a name that the
	// CA's directory lists (draft-ietf-acme-profiles): with Let's Encrypt
	// "classic", "tlsserver" or "shortlived" (160 hours). Empty leaves the choice
	// to the CA, except for IP addresses: their orders ask for "shortlived" if the
	// CA lists it, since Let's Encrypt certifies them with no other. A change applies
	// when a certificate is next issued or renewed: those in Cache stay in service
	// until they are due. An order of another profile that was not finished is
	// resumed.
	//
	// While the CA does not offer the profile, no order is placed for the hosts
	// that use it. That is told soon after Start or before the first order, by
	// an event audit.ConfigurationWarning and in Snapshot.Warnings; handshakes
	// without a certificate get an error that wraps ErrBadSetting. It does not
	// count against hosts or CA. The CA is asked again after 10 minutes, then after
	// longer waits up to an hour, and by Obtain and Renew at once.
	Profile string

	// HostSettings are the settings of single hosts. A key is an exact name, a
	// wildcard "*.example.com" for one label, or an IP address, in any form that
	// Hosts accepts. An exact name's settings replace those of a wildcard as a
	// whole. The map is copied at the first use. Hosts whose key is invalid get
	// the Manager's own settings; Start returns that as an error, which wraps
	// ErrBadSetting and names the key, and the first use of any method warns of
	// it.
	HostSettings map[string]HostSettings

	// Certificates returns certificates of the operator's own, which go before
	// those of the CA: from files (CertificateFiles), or from a function. One is
	// served if it has the name that a client asks for, exactly or by a wildcard
	// of one label, if it is valid now, and if the client can use its key. Whoever
	// provides it has allowed its names: they are served whether or not Hosts or
	// HostPolicy allows them, until the certificate expires or is taken away.
	//
	// They are never renewed, and nothing is issued for a host that has one, also
	// not by Renew (ErrOwnCertificate). If it is not replaced in time, issuance
	// takes over for a host in Hosts by its exact name: at half of the time
	// between the date on which a certificate of the CA would be renewed and the
	// expiry, which is about 15 days before the end for 90 days or a year. The new one
	// is then in memory when it is needed. If the certificate is taken away,
	// issuance takes over at once. Other hosts that are allowed get a certificate
	// with their first visitor after the end.
	//
	// A certificate that cannot be used replaces none of the same origin: see
	// OwnCertificate. The first handshakes wait for the first answer, at most 5
	// seconds and HandshakeWait. Snapshot, the status page and the metrics have
	// these certificates with their expiry. Nil means that there are none.
	Certificates CertificateSource

	// CertificatesEvery is the wait between two calls of Certificates. Default
	// 10 s; negative: it is called once.
	CertificatesEvery time.Duration

	// DefaultHost is the host whose certificate clients get that send no server
	// name (SNI), if the address that they connected to is neither in Hosts nor
	// in HostWhitelist: a host name or an IP address that is itself allowed, as
	// any other host. It is not for server names that are not allowed. If it is
	// empty, HostPolicy is asked about the address, if there is one other than
	// HostWhitelist and the address is public; and without either, such a client
	// gets ErrNoServerName. A DefaultHost that is invalid or not on Hosts is a
	// warning at the first use of any method, and an error of such handshakes.
	//
	// Go's crypto/tls does not ask GetCertificate for clients without SNI if
	// tls.Config.Certificates is set: they get the first of those.
	DefaultHost string

	// PublicAddrs says what clients call a local address, where NAT is between
	// them, as in clouds: its keys are local addresses, as connections have them
	// (net.Conn.LocalAddr), and its values those that clients connect to, which
	// are in Hosts. An address that is not a key stands for itself. Behind a proxy
	// that speaks the PROXY protocol it is not needed if the listener's
	// connections return the address that the client connected to. The map is
	// copied at the first use of any method.
	PublicAddrs map[netip.Addr]netip.Addr

	// Fallback is served for an allowed host that has no certificate, in place of
	// the error, while an issuance is in flight, the host backs off or waits for
	// DNS, or the CA is out of service: for clients that take any certificate, or
	// show a page of the server behind a warning. The handshake that begins an
	// issuance waits for it first, as without a Fallback. It may be SelfSigned().
	// It is never served for a host that is not allowed or whose HostPolicy cannot
	// decide, while the Cache cannot be read, nor to a challenge of the CA. Its
	// handshakes have their own result, audit.ResultFallback. TLSConfig never
	// resumes their sessions, and MayResume none of the host for 7 days after.
	//
	// Its names do not matter. One that is expired or damaged is not served: Start
	// returns an error that wraps ErrBadSetting, and the first use of any method
	// warns of it. Nil, the default, means none: handshakes fail fast.
	Fallback *tls.Certificate

	// KeepKey reuses the private key on renewal, for deployments whose clients
	// pin it. By default every certificate has a new key. The key of a revoked
	// certificate is never reused, nor one of another type than KeyType.
	KeepKey bool

	// KeySource returns the private key for each new certificate of a host, in
	// place of one that is generated: one of a hardware module or a key management
	// service, or always the same one for DANE. It is called in the background before
	// an order is placed, and has 30 seconds; concurrent calls are for different
	// hosts. A failure wraps ErrKeySource and is retried by Backoff.
	//
	// The key must be ECDSA on P-256, P-384 or P-521, or RSA with 2,048 to 8,192
	// bits. Its algorithm must be that of KeyType, and certificates are issued for
	// that algorithm only. A key that was revoked as compromised is refused.
	// KeySource takes precedence over KeepKey.
	//
	// An *ecdsa.PrivateKey or *rsa.PrivateKey is stored in Cache like a generated
	// one. Of any other key Cache has the public key only, and KeySource is asked
	// for it when the certificate is loaded: it must return the same key again
	// then, within 5 seconds, or the certificate cannot be served. If it returns
	// another one, a new certificate is issued. Such a key signs in each
	// handshake, with RSA by PSS too.
	KeySource func(ctx context.Context, host string) (crypto.Signer, error)

	// PolicyTTL is how long HostPolicy's approval counts as fresh, for a host
	// whose certificate is in memory. The first handshake after that is still
	// served, however old the approval is, and has the policy asked again in
	// the background; its answer affects the handshakes after it. Default 1
	// minute; negative: asked in each handshake, before it is served. See also
	// MaxPolicyAge.
	PolicyTTL time.Duration

	// MaxPolicyAge is the age from which an approval of HostPolicy serves no
	// handshake any more: the policy is asked first, and a handshake waits for
	// its answer, at most 5 seconds and HandshakeWait. A host that nobody
	// visited for a day, for example, is then not served on yesterday's
	// approval. If the policy cannot decide, a valid certificate stays in
	// service, and the policy is asked again after 10 seconds. Default: off, so
	// an approval of any age serves.
	MaxPolicyAge time.Duration

	// Audit gets an event for every change of state: one at a time, in order,
	// in its own goroutine. If it is slow, events beyond 4,096 are dropped and
	// counted, and those about hosts that are not in Hosts by their exact names
	// beyond 3,072. If it is nil, failures go to slog.Default(), and with ErrorLog
	// refused handshakes too.
	Audit func(context.Context, audit.Event)
	// Issued is called with each certificate that enters service: one that was
	// issued, once it is in Cache or its first write has failed or takes longer
	// than a second; and one that was loaded from Cache, as at Start or when
	// another machine has renewed it. It can reload a mail server, or push to a
	// load balancer. Package pemfiles has one that writes PEM files.
	//
	// It is called in the background: no handshake waits for it. The context
	// ends after a minute, and on Close. At most 8 calls run at once, and one
	// for a host. If a host gets another certificate meanwhile, the next call is
	// for the newest. One that panics, takes too long, or fails within
	// RetryIssued is an event, and is repeated after 10 s, 1 min, 10 min and
	// then hourly. One that does not return keeps its place among the 8.
	//
	// It may be called more than once with the same certificate, at least once
	// in each process that serves it. Close does not wait for calls that have
	// not begun. The certificate has its Leaf, and is the callee's own copy.
	Issued func(ctx context.Context, cert *tls.Certificate)

	// HandshakeWait is how long a handshake waits in all: for HostPolicy, for
	// the Cache, and for the issuance that it begins. Default 10 s; negative:
	// not at all for an issuance, and 6 s for HostPolicy and the Cache together.
	// What has begun continues.
	//
	// TLS stacks set a ClientHelloInfo's context. The default for one without a
	// context, which a program has made to prefetch a certificate, is 5 minutes.
	// Set HandshakeWait if a handshake may lead to such a call.
	HandshakeWait time.Duration

	// InFlightWait is how long a handshake waits for an issuance that another
	// one began, within HandshakeWait. Default: not at all.
	InFlightWait time.Duration

	// MaxWaiting is how many handshakes may wait in all: for issuances, and for
	// cache reads and policy calls begun by others. One host may have half of
	// them. Default 1,000; negative: none.
	MaxWaiting int

	// MaxIssuing is how many issuances run at the same time. Default 64;
	// negative: no limit. A quarter of them, and at least one, is the most for hosts
	// that failed before or that AllowAnyHost or a wildcard allows.
	MaxIssuing int

	// Backoff holds the waits after 1, 2, 3 ... consecutive failures of a host;
	// the last one repeats. They get 10 percent of jitter and are at least 1 s.
	// Default: 1 min, 10 min, then hourly for a day, then daily, or every 90th
	// part of the lifetime of a certificate in service that lasts less than 90
	// days, but not more often than hourly; and while
	// visitors are refused because the CA itself fails, 5 s, 15 s, 45 s, then
	// every minute for 15 min, then every 5 min. They continue after a
	// restart, which allows a host one earlier attempt, at most twice an hour. A
	// host that the CA has paused or rejected is tried once a day. After an
	// attempt that is cut short, because the process ends or the host leaves the
	// list, there is no wait, but at most 5 of those begin within an hour.
	Backoff []time.Duration

	// StartPace is the time between certificates that Start issues for new
	// hosts, after the first 150. In addition, each registered domain gets at
	// most 25 at once and then one every 7 hours. Default 72 s: half of what
	// Let's Encrypt allows. Negative: no pacing, for a CA without limits.
	StartPace time.Duration

	// OrderBudget is how many orders the account may place within 3 hours: a
	// bucket of so many, which refills evenly. Orders that replace a certificate
	// in the window that the CA suggests (ARI, RFC 9773) do not count. Hosts on
	// Hosts by their exact names have priority: other hosts get orders only while
	// more than half of the budget is left, and Start only while more than a sixth
	// is. A host that gets none is refused until the next order is due, which does
	// not count as a failure. The budget is kept in Cache, for restarts and for
	// other machines that share it. Default: 300 for Let's Encrypt and its staging environment, which
	// is their limit, and none for other CAs. Negative: no limit.
	OrderBudget int

	// Lease is for a Cache with locks (cache.Locker), which several machines
	// share: see Fleets in the package documentation. A machine that issues for a
	// host has a lease of so long, and extends it until the certificate is stored. If
	// it dies, another machine takes over when its lease has ended. It must be longer
	// than three times what a call of the Cache may take, and is the same on all
	// machines. Default 30 s; one below cache.MinLease is a bad setting.
	Lease time.Duration

	// Machine is the name of this machine in errors, events and records that other
	// machines show. Default: its host name.
	Machine string

	// Preflight checks that a host's name leads to this server before placing
	// an order. It does what the CA will do: resolve the name and ask each
	// address for the response to a challenge with a random token. It takes at
	// most 5 s, while the issuance holds its slot. With preflight.Enforce, names
	// on Hosts that do not lead here are not ordered but wait for DNS, and are
	// probed until they do. The zero value, preflight.Off, makes no connection.
	Preflight preflight.Mode

	// PreflightResolver resolves names for Preflight only. It should see what
	// the CA sees: not a hosts file, not an internal zone. With
	// preflight.Enforce it should not remember for long that a name does not
	// exist, or did not lead here: preflight.Resolver says which one to take. Nil
	// means net.DefaultResolver. It may be called concurrently.
	PreflightResolver preflight.Resolver

	// PreflightDial makes the connections of Preflight only: network is "tcp",
	// address an IP address with port 443 or 80. Nil means a net.Dialer. Set it
	// if this machine cannot reach its own public addresses directly. It may be
	// called concurrently.
	PreflightDial func(ctx context.Context, network, address string) (net.Conn, error)

	// PreflightAllow has Preflight ask addresses that it does not ask otherwise,
	// because no public CA can reach them: loopback, link-local, carrier-grade NAT
	// (100.64.0.0/10), reserved and multicast ones, and clouds' metadata services. A
	// name's owner chooses its addresses, so allow only what all of them may have
	// this machine connect to. Private networks (10.0.0.0/8 and the like) are asked
	// anyway.
	PreflightAllow []netip.Prefix

	once         sync.Once
	engine       *engine // made by init
	useHTTP01    atomic.Bool
	tellRefusals atomic.Bool      // to slog if Audit is nil, since ErrorLog keeps them out of the log
	clock        func() time.Time // nil means time.Now; for tests of a wrong clock
}

func (m *Manager) init() { m.once.Do(func() { m.engine = newEngine(m) }) }
