package audit

// An Kind names a change of state. The set is closed; the strings are
// stable.
type Kind string

// The kinds of events.
const (
	// CertificateLoaded: a certificate was found in the Cache and is served.
	CertificateLoaded Kind = "certificate_loaded"
	// IssuanceStarted: an issuance began. Reason says for whom.
	IssuanceStarted Kind = "issuance_started"
	// CertificateIssued: an issuance succeeded and the certificate is served.
	CertificateIssued Kind = "certificate_issued"
	// IssuanceFailed: an issuance failed. Err is an *IssuanceError, RetryAt
	// when the next attempt is due.
	IssuanceFailed Kind = "issuance_failed"
	// BackoffRestored: the Cache has the record of a failure, from before a
	// restart or of another machine, that holds a host back until RetryAt.
	BackoffRestored Kind = "backoff_restored"
	// ChallengeFailed: the CA did not accept one challenge. Reason says
	// whether the CA's request was seen here.
	ChallengeFailed Kind = "challenge_failed"
	// CertificateExpired: a certificate expired in memory and is not served any more.
	CertificateExpired Kind = "certificate_expired"
	// RenewalLate: renewals of a certificate fail, and half of the time that
	// was left at the first failure is over, or 7 days are left, or one. Err is
	// the last failure, RetryAt the next attempt. CertificateExpired follows.
	RenewalLate Kind = "renewal_late"
	// RenewalWindowMoved: the CA suggests another time for a renewal than before
	// (RFC 9773), RetryAt is when it will be. One in the past means that the CA
	// is about to revoke the certificate; ExplanationURL may say why.
	RenewalWindowMoved Kind = "renewal_window_moved"
	// CertificateRevoked: a certificate was revoked by Manager.Revoke, or found to be
	// revoked, and is not served any more. Reason says which and why.
	CertificateRevoked Kind = "certificate_revoked"
	// ClockOff: the local clock does not fit the dates of a new certificate, or
	// the Date of the CA's replies; of the latter it tells once until it fits again.
	ClockOff Kind = "clock_off"
	// HostDropped: a host is no longer allowed; it is neither served nor renewed.
	HostDropped Kind = "host_dropped"
	// HostRestored: HostPolicy allows a host again that it had refused.
	HostRestored Kind = "host_restored"
	// PolicyFailed: HostPolicy could not decide about a host. If it has a
	// certificate it stays in service. Count says how often since the last such
	// event; at most one a minute.
	PolicyFailed Kind = "policy_failed"
	// CacheReadFailed: the Cache could not be read. Nothing is ordered for that
	// reason. At most one a minute for each entry of a host that is on the Allowlist by
	// its exact name, one for all other names, and one for all http-01 tokens. Count
	// says how often since the last one, which Host and Err are an example of.
	CacheReadFailed Kind = "cache_read_failed"
	// CacheEntryRejected: an entry of the Cache is damaged, expired or does not
	// fit, and counts as missing. Coalesced as CacheReadFailed is.
	CacheEntryRejected Kind = "cache_entry_rejected"
	// CacheWriteFailed: the Cache could not be written. A certificate is
	// served from memory and the write is tried again. Coalesced as
	// CacheReadFailed is.
	CacheWriteFailed Kind = "cache_write_failed"
	// CacheWriteRecovered: a write that had failed succeeded.
	CacheWriteRecovered Kind = "cache_write_recovered"
	// AccountReady: an account was registered with the CA, or found there.
	AccountReady Kind = "account_ready"
	// CAUnavailable: the CA as a whole is not tried before RetryAt.
	CAUnavailable Kind = "ca_unavailable"
	// CAAvailable: the CA works again.
	CAAvailable Kind = "ca_available"
	// AccountUnavailable: there is no account with the CA, for a reason that is not the
	// CA's, so that no host is tried before RetryAt.
	AccountUnavailable Kind = "account_unavailable"
	// AccountAvailable: that is over.
	AccountAvailable Kind = "account_available"
	// AccountKeyChanged: the account has another key (Manager.RollAccountKey).
	// Reason is its URL and the key's thumbprint.
	AccountKeyChanged Kind = "account_key_changed"
	// AccountContactChanged: the account's contact at the CA was changed to Manager.Email.
	AccountContactChanged Kind = "account_contact_changed"
	// AccountContactFailed: it could not be changed. Nothing depends on it.
	AccountContactFailed Kind = "account_contact_failed"
	// HandshakesRefused: handshakes were refused with the Result; Count says how many
	// since the last such event. Host, Err and who asked are one example, if there
	// is one. At most one a minute for each Result.
	HandshakesRefused Kind = "handshakes_refused"
	// EventsDropped: Count events were lost because the hook is too slow.
	EventsDropped Kind = "events_dropped"
	// StartProgress: Start has brought Count of Total hosts into memory. The last one
	// has Count equal to Total; while there are failures it does not come.
	StartProgress Kind = "start_progress"
	// HostListed: an entry came onto the Allowlist; Reason is the caller's.
	// Host is the entry, a wildcard as it is written. A change of more than 100
	// entries is one event, with their number in Count and one of them in Host.
	HostListed Kind = "host_listed"
	// HostUnlisted: an entry was taken off the Allowlist; the same.
	HostUnlisted Kind = "host_unlisted"
	// AllowlistRejected: the file of an Allowlist is bad or cannot be read,
	// and the last good list stays. Err names each bad line.
	AllowlistRejected Kind = "allowlist_rejected"
	// AllowlistReloaded: the file of an Allowlist was read again and holds
	// Count entries.
	AllowlistReloaded Kind = "allowlist_reloaded"
	// IssuanceCanceled: an issuance ended because its host is no longer allowed
	// or the Manager was closed. It is no failure and holds nothing back.
	IssuanceCanceled Kind = "issuance_canceled"
	// HostUnreachable: a preflight found that a name does not lead to this server
	// (Refused), not by each of its addresses (Allowed), or it could not tell
	// (Undecided). Err says where the name leads and what answered there.
	HostUnreachable Kind = "host_unreachable"
	// ManagerClosed: the Manager was closed.
	ManagerClosed Kind = "manager_closed"
)

// Kinds returns every kind, in a fixed order.
func Kinds() []Kind {
	return []Kind{
		CertificateLoaded, IssuanceStarted, CertificateIssued, IssuanceFailed, BackoffRestored, ChallengeFailed, CertificateExpired,
		RenewalLate, RenewalWindowMoved, CertificateRevoked, ClockOff, HostDropped, HostRestored,
		PolicyFailed, CacheReadFailed, CacheEntryRejected, CacheWriteFailed, CacheWriteRecovered,
		AccountReady, CAUnavailable, CAAvailable, AccountUnavailable, AccountAvailable, AccountKeyChanged, AccountContactChanged,
		AccountContactFailed, HandshakesRefused, EventsDropped, StartProgress, HostListed, HostUnlisted,
		AllowlistRejected, AllowlistReloaded, IssuanceCanceled, HostUnreachable, ManagerClosed,
	}
}
