package audit

// A Result says how a call of GetCertificate ended. The set is closed and the
// strings are stable: they are values of metric labels.
type Result string

// The results of handshakes.
const (
	ResultServed        Result = "served"           // a valid certificate was returned
	ResultChallenge     Result = "challenge"        // a tls-alpn-01 challenge was answered
	ResultFallback      Result = "fallback"         // Manager.Fallback was returned, since there is no certificate
	ResultNoServerName  Result = "no_server_name"   // ErrNoServerName
	ResultBadServerName Result = "bad_server_name"  // ErrBadServerName
	ResultNotAllowed    Result = "host_not_allowed" // ErrHostNotAllowed, or HostPolicy's own refusal
	ResultPolicyFailed  Result = "policy_failed"    // HostPolicy could not decide
	ResultNoChallenge   Result = "no_challenge"     // a tls-alpn-01 handshake without a pending challenge
	ResultInFlight      Result = "in_flight"        // ErrInFlight
	ResultFailed        Result = "issuance_failed"  // the issuance it waited for failed
	ResultBackoff       Result = "backing_off"      // ErrBackoff: the host itself is backing off
	ResultCAUnavailable Result = "ca_unavailable"   // ErrCAUnavailable
	ResultNoAccount     Result = "no_account"       // ErrNoAccount
	ResultCacheFailed   Result = "cache_failed"     // ErrCache
	ResultBusy          Result = "busy"             // ErrBusy
	ResultClientLeft    Result = "client_left"      // the handshake's context ended while it waited
	ResultClosed        Result = "closed"           // ErrClosed
)

// Results returns every result, in a fixed order.
func Results() []Result {
	return []Result{
		ResultServed,
		ResultChallenge,
		ResultFallback,
		ResultNoServerName,
		ResultBadServerName,
		ResultNotAllowed,
		ResultPolicyFailed,
		ResultNoChallenge,
		ResultInFlight,
		ResultFailed,
		ResultBackoff,
		ResultCAUnavailable,
		ResultNoAccount,
		ResultCacheFailed,
		ResultBusy,
		ResultClientLeft,
		ResultClosed,
	}
}
