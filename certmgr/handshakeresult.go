package certmgr

import (
	"errors"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/flight"
)

// result is an audit.Result as an index.
type result uint8

const (
	resServed result = iota
	resChallenge
	resFallback
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
	resClientLeft
	resClosed

	resultCount
)

// decision returns the decision on a handshake with this result, and what
// decided it: usually a field of the Manager.
func (r result) decision(set *settings) (audit.Decision, string) {
	switch r {
	case resFallback:
		return audit.Allowed, "Fallback"
	case resNoServerName, resBadServerName:
		return audit.Refused, "SNI"
	case resNotAllowed:
		return audit.Refused, set.decider()
	case resPolicyFailed:
		return audit.Undecided, "HostPolicy"
	case resNoChallenge:
		return audit.Refused, "tls-alpn-01"
	case resInFlight:
		return audit.Refused, "InFlightWait"
	case resBackoff, resFailed:
		return audit.Refused, "Backoff"
	case resCAUnavailable, resNoAccount:
		return audit.Refused, "CA"
	case resCacheFailed:
		return audit.Refused, "Cache"
	case resBusy:
		return audit.Refused, "MaxWaiting"
	case resClientLeft:
		return audit.Refused, "the client left"
	}
	return audit.Refused, "Close"
}

// mayFallBack reports whether Manager.Fallback is served to clients of an allowed
// host in place of an error with this result. An unreadable Cache is none of
// these: the host may have a certificate, and clients that try again get it.
func (r result) mayFallBack() bool {
	switch r {
	case resInFlight, resFailed, resBackoff, resCAUnavailable, resNoAccount:
		return true
	}
	return false
}

// ofAllowedHost reports whether the handshake was for a host that is allowed.
func (r result) ofAllowedHost() bool {
	switch r {
	case resNoServerName, resBadServerName, resNotAllowed, resPolicyFailed, resNoChallenge:
		return false
	}
	return true
}

// resultOfSentinel returns the result for a refusal's sentinel.
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
	case ErrBackoff, ErrBadSetting:
		return resBackoff
	case ErrCAUnavailable:
		return resCAUnavailable
	case ErrNoAccount:
		return resNoAccount
	case ErrCache:
		return resCacheFailed
	case ErrClock, ErrKeySource:
		return resFailed
	case ErrClosed:
		return resClosed
	}
	return resBusy
}

// resultOf returns the result of a refused handshake. Scanners make it run
// often, so the errors that they cause are recognised by type alone.
func resultOf(err error) result {
	switch e := err.(type) {
	case *refusal:
		return resultOfSentinel(e.kind)
	case *caRefusal:
		return resultOfSentinel(e.kind)
	case *IssuanceError:
		return resFailed
	case *flight.Busy:
		return resBusy
	case *flight.Left:
		return resClientLeft
	}
	switch {
	case errors.Is(err, ErrCacheMiss):
		return resNoChallenge // other handshakes would begin an issuance
	case errors.Is(err, ErrClosed):
		return resClosed
	case errors.Is(err, ErrCache):
		return resCacheFailed
	case isUndecided(err):
		return resPolicyFailed
	}
	return resNotAllowed // HostPolicy's own error
}
