package certmgr

import "errors"

// A HandshakeResult says how a call of GetCertificate ended. The set is closed
// and the strings are stable: they are labels of metrics.
type HandshakeResult string

// The results of handshakes.
const (
	ResultServed        HandshakeResult = "served"           // a valid certificate was returned
	ResultChallenge     HandshakeResult = "challenge"        // a tls-alpn-01 challenge was answered
	ResultNoServerName  HandshakeResult = "no_server_name"   // ErrNoServerName
	ResultBadServerName HandshakeResult = "bad_server_name"  // ErrBadServerName
	ResultNotAllowed    HandshakeResult = "host_not_allowed" // ErrHostNotAllowed, or HostPolicy's own refusal
	ResultPolicyFailed  HandshakeResult = "policy_failed"    // HostPolicy could not decide
	ResultNoChallenge   HandshakeResult = "no_challenge"     // a tls-alpn-01 handshake for which no challenge is live
	ResultInFlight      HandshakeResult = "in_flight"        // ErrInFlight
	ResultFailed        HandshakeResult = "issuance_failed"  // the issuance that it waited for failed
	ResultBackoff       HandshakeResult = "backing_off"      // ErrBackoff: the host's own
	ResultCAUnavailable HandshakeResult = "ca_unavailable"   // ErrCAUnavailable
	ResultNoAccount     HandshakeResult = "no_account"       // ErrNoAccount
	ResultCacheFailed   HandshakeResult = "cache_failed"     // ErrCache
	ResultBusy          HandshakeResult = "busy"             // ErrBusy
	ResultGone          HandshakeResult = "gone"             // the handshake's context ended while it waited
	ResultClosed        HandshakeResult = "closed"           // ErrClosed
)

// result is a HandshakeResult as an index.
type result uint8

const (
	resServed result = iota
	resChallenge
	resNoServerName
	resBadServerName
	resNotAllowed
	resPolicyFailed
	resNoChallenge
	resInFlight
	resFailed
	resBackoff
	resCAUnavailable
	resNoAccount
	resCacheFailed
	resBusy
	resGone
	resClosed

	resultCount
)

// HandshakeResults returns every result, in a fixed order.
func HandshakeResults() []HandshakeResult {
	return []HandshakeResult{
		resServed: ResultServed, resChallenge: ResultChallenge, resNoServerName: ResultNoServerName,
		resBadServerName: ResultBadServerName, resNotAllowed: ResultNotAllowed, resPolicyFailed: ResultPolicyFailed,
		resNoChallenge: ResultNoChallenge, resInFlight: ResultInFlight, resFailed: ResultFailed, resBackoff: ResultBackoff,
		resCAUnavailable: ResultCAUnavailable, resNoAccount: ResultNoAccount, resCacheFailed: ResultCacheFailed,
		resBusy: ResultBusy, resGone: ResultGone, resClosed: ResultClosed,
	}
}

// decision says what was decided about a handshake with this result, and what
// decided it: a field of the Manager, as a rule.
func (r result) decision(set *settings) (Decision, string) {
	switch r {
	case resNoServerName, resBadServerName:
		return Refused, "SNI"
	case resNotAllowed:
		return Refused, set.decider()
	case resPolicyFailed:
		return Undecided, "HostPolicy"
	case resNoChallenge:
		return Refused, "tls-alpn-01"
	case resInFlight:
		return Refused, "InFlightWait"
	case resBackoff, resFailed:
		return Refused, "Backoff"
	case resCAUnavailable, resNoAccount:
		return Refused, "CA"
	case resCacheFailed:
		return Refused, "Cache"
	case resBusy:
		return Refused, "MaxWaiting"
	case resGone:
		return Refused, "the visitor left"
	}
	return Refused, "Close"
}

// ofAllowedHost reports whether the handshake was for a host that is allowed.
func (r result) ofAllowedHost() bool {
	switch r {
	case resNoServerName, resBadServerName, resNotAllowed, resPolicyFailed, resNoChallenge:
		return false
	}
	return true
}

// resultOfSentinel goes by the sentinel that a refusal is of.
func resultOfSentinel(kind error) result {
	switch kind {
	case ErrNoServerName:
		return resNoServerName
	case ErrBadServerName:
		return resBadServerName
	case ErrHostNotAllowed:
		return resNotAllowed
	case ErrPolicy:
		return resPolicyFailed
	case ErrInFlight:
		return resInFlight
	case ErrBackoff:
		return resBackoff
	case ErrCAUnavailable:
		return resCAUnavailable
	case ErrNoAccount:
		return resNoAccount
	case ErrCache:
		return resCacheFailed
	case ErrClock:
		return resFailed
	case ErrClosed:
		return resClosed
	}
	return resBusy
}

// resultOf returns what a refused handshake counts as. Scanners make it run
// often: what they cause is told by its type alone.
func resultOf(err error) result {
	switch e := err.(type) {
	case *refusal:
		return resultOfSentinel(e.kind)
	case *caRefusal:
		return resultOfSentinel(e.kind)
	case *IssuanceError:
		return resFailed
	case *gone:
		return resGone
	}
	switch {
	case errors.Is(err, ErrCacheMiss):
		return resNoChallenge // for a visitor it leads to an issuance
	case errors.Is(err, ErrClosed):
		return resClosed
	case errors.Is(err, ErrCache):
		return resCacheFailed
	case isUndecided(err):
		return resPolicyFailed
	}
	return resNotAllowed // HostPolicy's own error
}
