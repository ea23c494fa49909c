// Package askpolicy is a certmgr.HostPolicy that asks an HTTP endpoint which
// hosts may be served. The protocol is that of Caddy's on-demand TLS ("ask"), so
// an endpoint that was written for Caddy works unchanged:
//
//	GET https://app.example.internal/ask?domain=shop.example.com
//
// A status of 2xx allows the host. The body does not matter.
//
// What else may come is told apart more finely than by Caddy, because a policy
// that cannot decide must not take hosts out of service:
//
//   - 3xx, 408, 425, 429, 5xx, no response, or a malformed one: the endpoint could
//     not decide (certmgr.ErrPolicy). Hosts with a valid certificate stay in
//     service, others have to wait. Redirects are not followed, as in Caddy: they
//     are a mistake in the endpoint's URL, or a login page.
//   - any other status, such as 404 or 403: the host is refused
//     (certmgr.ErrHostNotAllowed).
//
// Answer quickly, by a lookup in a table: scanners make up names, and each of
// them is asked about. A yes is remembered for a while, a no never is. So a host
// that the endpoint no longer allows is served for up to Options.Remember and
// Manager.PolicyTTL together.
package askpolicy
