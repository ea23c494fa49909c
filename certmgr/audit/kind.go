package audit

// A Kind names a change of state. The set is closed and the strings are stable.
type Kind string

// The kinds of events.
const (
	// CertificateLoaded: a certificate was found in the Cache and is served.
	// Reason names its issuer.
	CertificateLoaded Kind = "certificate_loaded"
	// CertificateUntrusted: a certificate in the Cache is from a CA for tests,
	// such as Let's Encrypt's staging environment, and the configured CA is
	// not. It is served, and replaced at once. Reason names its issuer.
	CertificateUntrusted Kind = "certificate_untrusted"
	// IssuanceStarted: an issuance began. Reason says for whom. It ends with
	// CertificateIssued, IssuanceFailed, IssuanceCanceled or WaitingForDNS, unless
	// the process ends, or the name waits for DNS already.
	IssuanceStarted Kind = "issuance_started"
	// CertificateIssued: an issuance succeeded and the certificate is served.
	CertificateIssued Kind = "certificate_issued"
	// IssuanceFailed: an issuance failed. Err is an *IssuanceError, RetryAt is
	// when the next attempt is due.
	IssuanceFailed Kind = "issuance_failed"
	// BackoffRestored: the Cache holds the record of a failure, from before a
	// restart or from another machine. The host backs off until RetryAt.
	BackoffRestored Kind = "backoff_restored"
	// ChallengeFailed: the CA did not accept one challenge. Reason says whether
	// the CA's validation request arrived here.
	ChallengeFailed Kind = "challenge_failed"
	// CertificateExpired: a certificate in memory expired and is no longer
	// served.
	CertificateExpired Kind = "certificate_expired"
	// RenewalLate: renewals of a certificate keep failing. It is reported when
	// half of the time left at the first failure is over, then with 7 days and
	// with one day left. Err is the last failure, RetryAt the next attempt.
	// CertificateExpired follows.
	RenewalLate Kind = "renewal_late"
	// RenewalWindowMoved: the CA suggests a new time for a renewal (RFC 9773).
	// RetryAt is the new renewal time. A time in the past means that the CA is
	// about to revoke the certificate; ExplanationURL may say why.
	RenewalWindowMoved Kind = "renewal_window_moved"
	// RenewalSkipped: a certificate is due and not renewed, because no client
	// needed its key type during a whole lifetime, and the host has one of the
	// other type. It is served until it expires. If a client needs the key type
	// before that, it is renewed; if a client needs it later, it is issued.
	RenewalSkipped Kind = "renewal_skipped"
	// CertificateRevoked: a certificate was revoked by Manager.Revoke, or found
	// to be revoked, and is no longer served. Reason says which and why.
	CertificateRevoked Kind = "certificate_revoked"
	// CertificateWithdrawn: a certificate that was served from a local copy while
	// the Cache's store was down (cache.Layered) is no longer served, since the
	// store has no entry for it: another machine revoked it, or the entry was
	// deleted. A new one is issued. Coalesced like CacheReadFailed.
	CertificateWithdrawn Kind = "certificate_withdrawn"
	// ClockOff: the local clock does not fit the dates of a new certificate, or
	// the Date header of the CA's replies. It is reported once until the clock
	// fits again. How far a CA backdates certificates does not matter, unless
	// its replies have no Date.
	ClockOff Kind = "clock_off"
	// HostDropped: a host is no longer allowed; it is neither served nor
	// renewed.
	HostDropped Kind = "host_dropped"
	// HostRestored: HostPolicy allows a host again that it had refused.
	HostRestored Kind = "host_restored"
	// PolicyFailed: HostPolicy could not decide about a host. A certificate in
	// memory stays in service. At most one a minute; Count is the number of
	// failures since the last one.
	PolicyFailed Kind = "policy_failed"
	// CacheReadFailed: the Cache could not be read. If the entry is autocert's
	// too, nothing is ordered because of that; others are ignored. At most one
	// a minute for each entry of a host that is on the Allowlist by its exact
	// name, one for all other names, one for all http-01 tokens, and one a day
	// for each kind of entry that autocert does not know. Count is the number
	// of failures since the last event; Host and Err are an example.
	CacheReadFailed Kind = "cache_read_failed"
	// CacheEntryRejected: an entry of the Cache is damaged, expired or does not
	// fit, and counts as missing. Coalesced like CacheReadFailed.
	CacheEntryRejected Kind = "cache_entry_rejected"
	// CacheWriteFailed: the Cache could not be written. The certificate is
	// served from memory and the write is retried. Coalesced like
	// CacheReadFailed.
	CacheWriteFailed Kind = "cache_write_failed"
	// CacheUnavailable: the Cache of a fleet, which has locks, is down: no call has
	// succeeded for Duration. It stands for the Count calls that failed, and is
	// repeated every 10 minutes. Certificates in memory are served, and nothing is
	// ordered.
	CacheUnavailable Kind = "cache_unavailable"
	// CacheAvailable: the Cache of a fleet works again, after Count calls had failed
	// within Duration.
	CacheAvailable Kind = "cache_available"
	// CacheWriteRecovered: a write succeeded after it had failed.
	CacheWriteRecovered Kind = "cache_write_recovered"
	// CachePruned: Manager.Prune deleted entries of the Cache. Count is how many,
	// Reason which ones.
	CachePruned Kind = "cache_pruned"
	// DeliveryFailed: Manager.Issued failed for a certificate: it returned an
	// error through RetryIssued, panicked, or took longer than a minute. The
	// certificate is served all the same, and Issued is called again at RetryAt.
	// At most one a minute for each host that is on the Allowlist by its exact
	// name, and one for all other names. Count is the number of failures since
	// the last one.
	DeliveryFailed Kind = "delivery_failed"
	// DeliveryRecovered: Manager.Issued succeeded for a certificate after it had
	// failed.
	DeliveryRecovered Kind = "delivery_recovered"
	// AccountReady: an account was registered with the CA, or found there.
	AccountReady Kind = "account_ready"
	// CAUnavailable: the CA as a whole has failed and is not tried before
	// RetryAt. Each failed issuance that was to end an outage is told, and a
	// failed probe at most every 15 minutes.
	CAUnavailable Kind = "ca_unavailable"
	// CAAvailable: the CA works again.
	CAAvailable Kind = "ca_available"
	// AccountUnavailable: there is no account with the CA, for a reason other
	// than the CA itself: a field of the Manager, the account key in the Cache,
	// or an account that the CA refuses, perhaps until somebody visits a page.
	// Err says which, and what to do. No host is tried before RetryAt.
	AccountUnavailable Kind = "account_unavailable"
	// AccountAvailable: an account is available again.
	AccountAvailable Kind = "account_available"
	// OrdersRationed: an order was not placed, since what is left of
	// Manager.OrderBudget is kept for others, or nothing is. Reason says how many
	// orders are left and for whom, RetryAt when the next one is due. At most one
	// an hour for each share of the budget; Count is the number of refusals since
	// the last one, Host an example.
	OrdersRationed Kind = "orders_rationed"
	// AccountKeyChanged: the account has a new key (Manager.RollAccountKey).
	// Reason holds the account's URL and the key's thumbprint.
	AccountKeyChanged Kind = "account_key_changed"
	// AccountContactChanged: the account's contact at the CA was changed to
	// Manager.Email.
	AccountContactChanged Kind = "account_contact_changed"
	// AccountContactFailed: updating the account's contact failed; issuance is
	// not affected.
	AccountContactFailed Kind = "account_contact_failed"
	// HandshakesRefused: handshakes were refused with this Result. Count is
	// their number since the last event. Host, Err and the client's fields are
	// one example, if there is one. At most one a minute for each Result.
	HandshakesRefused Kind = "handshakes_refused"
	// FallbackServed: handshakes got Manager.Fallback, since their hosts have no
	// certificate. The fields are those of HandshakesRefused; Err says why there
	// is none.
	FallbackServed Kind = "fallback_served"
	// EventsDropped: Count events were lost because the hook is too slow.
	EventsDropped Kind = "events_dropped"
	// StartProgress: Start has loaded or issued Count of Total hosts. In the
	// last such event Count equals Total; it does not come while hosts fail.
	StartProgress Kind = "start_progress"
	// HostListed: an entry was added to the Allowlist; Reason is the caller's.
	// Host is the entry, a wildcard as written. A change of more than 100
	// entries is one event, with their number in Count and one of them in Host.
	HostListed Kind = "host_listed"
	// HostUnlisted: an entry was removed from the Allowlist. The fields are
	// those of HostListed.
	HostUnlisted Kind = "host_unlisted"
	// GroupChanged: the names of a group of the Allowlist are others now: Host is
	// the first one, Names are the others. Without Names, Host has left its group
	// and is an entry by itself. The group's next renewal follows.
	GroupChanged Kind = "group_changed"
	// MemberFailed: a name of a group failed its validation, as Err says, and the
	// others are ordered without it. It is tried alone from RetryAt on, and again
	// at the group's next renewal. Count is the number of failures in a row.
	MemberFailed Kind = "member_failed"
	// AllowlistRejected: the file of an Allowlist is invalid or cannot be read.
	// The last good list stays in use. Err names each invalid line.
	AllowlistRejected Kind = "allowlist_rejected"
	// AllowlistReloaded: the file of an Allowlist was read again and holds
	// Count entries.
	AllowlistReloaded Kind = "allowlist_reloaded"
	// IssuanceCanceled: an issuance ended because its host is no longer allowed,
	// the Manager was closed, or the lease was lost (Manager.Lease), after which it
	// begins again. It does not count as a failure. After 5 such
	// attempts within an hour the host backs off.
	IssuanceCanceled Kind = "issuance_canceled"
	// IssuanceElsewhere: another machine that shares the Cache issues for the
	// host. Reason names it, RetryAt is when its lease ends unless that is
	// extended. Its certificate is served here as soon as it is stored. If it
	// stores none, this machine issues. It is reported once for each machine that
	// an issuance waits for.
	IssuanceElsewhere Kind = "issuance_elsewhere"
	// HostUnreachable: a preflight found that a name does not lead to this
	// server (Decision Refused), that only some of its addresses do (Allowed),
	// or it was inconclusive (Undecided). Err says where the name leads and
	// what answered there.
	HostUnreachable Kind = "host_unreachable"
	// WaitingForDNS: with preflight.Enforce, a name on the list does not lead to
	// this server. It is probed again at RetryAt, and ordered once it leads here.
	// Err says where it leads. It is reported when the wait begins, which ends the
	// attempt, and when the name's addresses change.
	WaitingForDNS Kind = "waiting_for_dns"
	// DNSWaitEnded: a name that waited for DNS no longer does, after Duration.
	// Reason says why: it leads here, it has a certificate, or it left the list.
	DNSWaitEnded Kind = "dns_wait_ended"
	// ConfigurationWarning: the Manager works, but the way it is set up will
	// cause trouble. Reason names the setting and says what to do. Each warning
	// is given once.
	ConfigurationWarning Kind = "configuration_warning"
	// OperatorAction: somebody (Actor, at RemoteAddr) had the Manager do
	// something by Manager.Act. Reason says what, and what was begun. The events
	// of what follows have the same Actor: an issuance, a revocation, changes of
	// the Allowlist. Actions that began nothing, since it was in flight already
	// or not needed, are told at most once a minute for each Actor; Count is then
	// their number since the last event.
	OperatorAction Kind = "operator_action"
	// OperatorActionFailed: such an action was refused (Decision Refused), or
	// failed after OperatorAction. Err says why. Refusals are told at most once a
	// minute for each Actor, and for all who were not identified together; Count
	// is their number since the last event.
	OperatorActionFailed Kind = "operator_action_failed"
	// CallbackPanicked: a callback of the user's panicked, or ended its
	// goroutine: a method of the Cache, HostPolicy, the HTTP client, and so on.
	// The process continues. Reason names the callback, Err what happened, and
	// Stack where. At most one a minute for each callback; Count is the number
	// of panics since the last one. A panic of Manager.Audit itself goes to
	// slog.Default().
	CallbackPanicked Kind = "callback_panicked"
	// OwnCertificateLoaded: a certificate of Manager.Certificates entered
	// service. Reason says where it is from and which names it has; Host is the
	// first of them.
	OwnCertificateLoaded Kind = "own_certificate_loaded"
	// OwnCertificateRejected: a certificate of Manager.Certificates cannot be
	// used, or, without a Host, none could be read. Err says which and why. What
	// was served from the same origin is served on until it expires. It is
	// reported once for each reason.
	OwnCertificateRejected Kind = "own_certificate_rejected"
	// OwnCertificateRemoved: a certificate is no longer among
	// Manager.Certificates and was taken out of service.
	OwnCertificateRemoved Kind = "own_certificate_removed"
	// OwnCertificateExpiring: a certificate of Manager.Certificates was not
	// replaced in time. Reason says whether certificates of the CA take over.
	// CertificateExpired follows.
	OwnCertificateExpiring Kind = "own_certificate_expiring"
	// ManagerClosed: the Manager was closed.
	ManagerClosed Kind = "manager_closed"
)

// Kinds returns every kind, in a fixed order.
func Kinds() []Kind {
	return []Kind{
		CertificateLoaded, CertificateUntrusted, IssuanceStarted, CertificateIssued, IssuanceFailed, BackoffRestored, ChallengeFailed, CertificateExpired,
		RenewalLate, RenewalWindowMoved, RenewalSkipped, CertificateRevoked, CertificateWithdrawn, ClockOff, HostDropped, HostRestored,
		PolicyFailed, CacheReadFailed, CacheEntryRejected, CacheWriteFailed, CacheWriteRecovered, CacheUnavailable, CacheAvailable, CachePruned,
		DeliveryFailed, DeliveryRecovered,
		AccountReady, CAUnavailable, CAAvailable, AccountUnavailable, AccountAvailable, OrdersRationed, AccountKeyChanged, AccountContactChanged,
		AccountContactFailed, HandshakesRefused, FallbackServed, EventsDropped, StartProgress, HostListed, HostUnlisted, GroupChanged, MemberFailed,
		AllowlistRejected, AllowlistReloaded, IssuanceCanceled, IssuanceElsewhere, HostUnreachable, WaitingForDNS, DNSWaitEnded, ConfigurationWarning, OperatorAction, OperatorActionFailed, CallbackPanicked,
		OwnCertificateLoaded, OwnCertificateRejected, OwnCertificateRemoved, OwnCertificateExpiring, ManagerClosed,
	}
}
