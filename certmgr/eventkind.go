package certmgr

// An EventKind names a change of state. The set is closed; the strings are
// stable.
type EventKind string

// The kinds of events.
const (
	// EventLoaded: a certificate was found in the Cache and is served.
	EventLoaded EventKind = "certificate_loaded"
	// EventIssuing: an issuance began. Reason says for whom.
	EventIssuing EventKind = "issuance_started"
	// EventIssued: an issuance succeeded and the certificate is served.
	EventIssued EventKind = "certificate_issued"
	// EventIssueFailed: an issuance failed. Err is an *IssuanceError, RetryAt
	// when the next attempt is due.
	EventIssueFailed EventKind = "issuance_failed"
	// EventBackoffRestored: the Cache has the record of a failure, from before a
	// restart or of another machine, that holds a host back until RetryAt.
	EventBackoffRestored EventKind = "backoff_restored"
	// EventChallengeFailed: the CA did not accept one challenge. Reason says
	// whether the CA's request was seen here.
	EventChallengeFailed EventKind = "challenge_failed"
	// EventExpired: a certificate expired in memory and is not served any more.
	EventExpired EventKind = "certificate_expired"
	// EventRenewalLate: renewals of a certificate fail, and half of the time that
	// was left at the first failure is over, or 7 days are left, or one. Err is
	// the last failure, RetryAt the next attempt. EventExpired follows.
	EventRenewalLate EventKind = "renewal_late"
	// EventRenewalMoved: the CA suggests another time for a renewal than before
	// (RFC 9773), RetryAt is when it will be. One in the past means that the CA
	// is about to revoke the certificate; ExplanationURL may say why.
	EventRenewalMoved EventKind = "renewal_window_moved"
	// EventRevoked: a certificate was revoked by Manager.Revoke, or found to be
	// revoked, and is not served any more. Reason says which and why.
	EventRevoked EventKind = "certificate_revoked"
	// EventClockOff: the local clock does not fit the dates of a new certificate, or
	// the Date of the CA's replies; of the latter it tells once until it fits again.
	EventClockOff EventKind = "clock_off"
	// EventHostDropped: a host is no longer allowed; it is neither served nor renewed.
	EventHostDropped EventKind = "host_dropped"
	// EventHostRestored: HostPolicy allows a host again that it had refused.
	EventHostRestored EventKind = "host_restored"
	// EventPolicyFailed: HostPolicy could not decide about a host. If it has a
	// certificate it stays in service. Count says how often since the last such
	// event; at most one a minute.
	EventPolicyFailed EventKind = "policy_failed"
	// EventCacheReadFailed: the Cache could not be read. Nothing is ordered for that
	// reason. At most one a minute for each entry of a host that is on the Allowlist by
	// its exact name, one for all other names, and one for all http-01 tokens. Count
	// says how often since the last one, which Host and Err are an example of.
	EventCacheReadFailed EventKind = "cache_read_failed"
	// EventCacheEntryRejected: an entry of the Cache is damaged, expired or does not
	// fit, and counts as missing. Coalesced as EventCacheReadFailed is.
	EventCacheEntryRejected EventKind = "cache_entry_rejected"
	// EventCacheWriteFailed: the Cache could not be written. A certificate is
	// served from memory and the write is tried again. Coalesced as
	// EventCacheReadFailed is.
	EventCacheWriteFailed EventKind = "cache_write_failed"
	// EventCacheWritten: a write that had failed succeeded.
	EventCacheWritten EventKind = "cache_write_recovered"
	// EventAccount: an account was registered with the CA, or found there.
	EventAccount EventKind = "account_ready"
	// EventCADown: the CA as a whole is not tried before RetryAt.
	EventCADown EventKind = "ca_unavailable"
	// EventCAUp: the CA works again.
	EventCAUp EventKind = "ca_available"
	// EventNoAccount: there is no account with the CA, for a reason that is not the
	// CA's, so that no host is tried before RetryAt.
	EventNoAccount EventKind = "account_unavailable"
	// EventAccountBack: that is over.
	EventAccountBack EventKind = "account_available"
	// EventAccountKey: the account has another key (Manager.RollAccountKey).
	// Reason is its URL and the key's thumbprint.
	EventAccountKey EventKind = "account_key_changed"
	// EventContact: the account's contact at the CA was changed to Manager.Email.
	EventContact EventKind = "account_contact_changed"
	// EventContactFailed: it could not be changed. Nothing depends on it.
	EventContactFailed EventKind = "account_contact_failed"
	// EventRefused: handshakes were refused with the Result; Count says how many
	// since the last such event. Host, Err and who asked are one example, if there
	// is one. At most one a minute for each Result.
	EventRefused EventKind = "handshakes_refused"
	// EventsDropped: Count events were lost because the hook is too slow.
	EventsDropped EventKind = "events_dropped"
	// EventStart: Start has brought Count of Total hosts into memory. The last one
	// has Count equal to Total; while there are failures it does not come.
	EventStart EventKind = "start_progress"
	// EventHostListed: an entry came onto the Allowlist; Reason is the caller's.
	// Host is the entry, a wildcard as it is written. A change of more than 100
	// entries is one event, with their number in Count and one of them in Host.
	EventHostListed EventKind = "host_listed"
	// EventHostUnlisted: an entry was taken off the Allowlist; the same.
	EventHostUnlisted EventKind = "host_unlisted"
	// EventAllowlistRejected: the file of an Allowlist is bad or cannot be read,
	// and the last good list stays. Err names each bad line.
	EventAllowlistRejected EventKind = "allowlist_rejected"
	// EventAllowlistReloaded: the file of an Allowlist was read again and holds
	// Count entries.
	EventAllowlistReloaded EventKind = "allowlist_reloaded"
	// EventIssueCanceled: an issuance ended because its host is no longer allowed
	// or the Manager was closed. It is no failure and holds nothing back.
	EventIssueCanceled EventKind = "issuance_canceled"
	// EventUnreachable: a preflight found that a name does not lead to this server
	// (Refused), not by each of its addresses (Allowed), or it could not tell
	// (Undecided). Err says where the name leads and what answered there.
	EventUnreachable EventKind = "host_unreachable"
	// EventClosed: the Manager was closed.
	EventClosed EventKind = "manager_closed"
)

// EventKinds returns every kind, in a fixed order.
func EventKinds() []EventKind {
	return []EventKind{
		EventLoaded, EventIssuing, EventIssued, EventIssueFailed, EventBackoffRestored, EventChallengeFailed, EventExpired,
		EventRenewalLate, EventRenewalMoved, EventRevoked, EventClockOff, EventHostDropped, EventHostRestored,
		EventPolicyFailed, EventCacheReadFailed, EventCacheEntryRejected, EventCacheWriteFailed, EventCacheWritten,
		EventAccount, EventCADown, EventCAUp, EventNoAccount, EventAccountBack, EventAccountKey, EventContact,
		EventContactFailed, EventRefused, EventsDropped, EventStart, EventHostListed, EventHostUnlisted,
		EventAllowlistRejected, EventAllowlistReloaded, EventIssueCanceled, EventUnreachable, EventClosed,
	}
}
