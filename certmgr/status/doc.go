// Package status shows what a certmgr.Manager is doing: a page for people, and
// the same as JSON for programs. It never changes anything. A second handler,
// Admin, lets operators act.
//
//	mux.Handle("/debug/certs/", status.Handler(m))
//
// The handler may be mounted at any path, as a subtree or not, and behind
// http.StripPrefix or a proxy that changes the path: it ignores the path and
// its links are relative. It allows GET and HEAD.
//
// # Who may see it
//
// The page shows every host, the clients that were refused and the causes of
// failures, and it has no authentication. Never make it public: serve it on a
// loopback or internal port, like net/http/pprof, or behind your own
// authentication. The example shows how.
//
// A page of a stranger's in an operator's browser can have its own name resolve
// to 127.0.0.1, and read what is served there (DNS rebinding). So requests to a
// loopback address are answered only if their Host is localhost, a loopback IP
// address or a name of the option ServedAs; others get 421.
//
// # The page
//
// Hosts that need attention are grouped by cause, with what to do first, a link
// to the runbook and, behind a disclosure, the CA's own words; the group whose
// visitors were refused most comes first. Up to 40 hosts are in a table, more in
// a list of several columns. Expired hosts come first in both. What expired,
// failing and late mean is defined next to certmgr.HostCounts.
//
// The page of one host (its name is a link to it) has all that is known of it,
// and its last 5 events; it says if there were older ones.
//
// It needs no other files and no other server: style and script are embedded,
// and its Content-Security-Policy allows only these, by their hashes. It works
// without JavaScript; with it, the page refreshes every five seconds while
// visible. All times are in UTC. Clients that accept gzip get it.
//
// # Parameters
//
// The page and the JSON take the same parameters. An unknown value is an error
// (400) that lists the known ones.
//
//	q       hosts whose name contains this text, 253 bytes at most
//	host    this one host, by its exact name; events are then those of the host
//	state   valid, issuing, backing off, paused, rejected, waiting_for_dns, expired
//	        or failed (the values of certmgr.HostState), or attention: hosts that
//	        are failing or late
//	cause   hosts that need attention for this cause: a value of causes in the JSON
//	sort    state (default, worst first), host, expiry (soonest first), next (the
//	        next renewal or attempt, soonest first), refused (most first); a
//	        leading minus reverses the order. Hosts without such a time come last.
//	page    from 1; a number that is too large means the last page
//	limit   hosts on a page, 1 to 1000, default 300, in the JSON 100
//	format  html or json; by default the Accept header decides
//
// # JSON
//
// Members may be added, but none changes its name or meaning. Times are in UTC
// (RFC 3339), errors are one line of text. Members that do not apply are left
// out where noted.
//
//	time       when the report was made
//	closed     whether the Manager was closed
//	ca         directory (URL) and available; if it is not available also
//	           retry_at, before which it is not tried, error, and no_account if
//	           the CA works but there is no account with it; if orders are limited
//	           (Manager.OrderBudget) orders, with left and limit
//	counts     of all hosts, whatever the filter:
//	           hosts (entries: a host with certificates of two key types has two),
//	           states (state to number), attention (failing and late ones), failing
//	           (without a valid certificate: an attempt failed, the name leads
//	           elsewhere, or the certificate expired), renewals_failing (late: valid
//	           certificates that were due and could not be renewed), backing_off (not
//	           tried again yet), in_flight (issuances), issuing (those
//	           holding a slot), queued (those waiting for one), waiting (handshakes),
//	           soonest_expiry (host, key_type, not_after; left out if nothing is valid),
//	           own_soonest_expiry (of certificates of Manager.Certificates whose
//	           place nothing takes; left out if there are none)
//	totals     since the Manager was created: handshakes (result to number, the
//	           values of audit.Result), refused (handshakes), issued
//	           (certificates), failed (issuances, stage to number), events_dropped
//	matched    hosts that match the filter
//	page       the number of this page
//	pages      the number of pages, at least 1
//	limit      hosts on a page
//	causes     why hosts need attention, whatever the filter, those first that
//	           refuse the most visitors: cause, title, help (what to do first),
//	           runbook (URL), hosts (number), refused (handshakes)
//	hosts      those of this page: host, key_type (left out if it holds for both),
//	           state, state_since, attention (whether it is among those); and, if
//	           they apply, late, cause, not_before, not_after, renew_at, renew_by,
//	           explanation_url, in_flight (since, stage, waiting; holder: the machine
//	           that issues in place of this one), failure (stage, time, attempts,
//	           attempt, ca, error; state: paused or rejected, if the CA refuses the
//	           host until somebody acts, or waiting_for_dns: error says where the name
//	           leads; unpause_url), retry_at, refused, last_asked, issuer, profile
//	           (that the next order asks for), renewal_failure (why the renewal failed
//	           or could not begin),
//	           fallback (its clients got Manager.Fallback within 10 minutes),
//	           source (where a certificate of Manager.Certificates is from),
//	           successor (when the CA's certificate ends that takes its place)
//	events     the most recent, oldest first, in the JSON form of audit.Event; with
//	           the parameter host the last 5 of that host
//	events_older, events_may_lack
//	           with the parameter host: how many older ones are no longer kept,
//	           and whether there may have been more; left out if they are 0 and false
//	warnings   about the setup, as texts; left out if there are none
//
// # What operators can do
//
// Admin is a handler of its own, for those whom its function who knows. Mount it
// beside the page, and tell the page where it is: then the page has buttons,
// which are plain HTML forms.
//
//	mux.Handle("/debug/certs/", status.Handler(m, status.AdminAt("/debug/certs/admin")))
//	mux.Handle("/debug/certs/admin", status.Admin(m, who))
//
// It takes forms by POST (application/x-www-form-urlencoded, 4 KB at most):
//
//	action   retry: a host without a valid certificate is tried now, whatever its
//	         backoff says (certmgr.ActionRetry)
//	         renew: its certificate is replaced (certmgr.ActionRenew)
//	         reload: the allowlist's file is read again (certmgr.ActionReload)
//	         revoke: with AllowRevoke only, the certificate is revoked for good
//	host     its name; not for reload
//	reason   for revoke: unspecified, keyCompromise, superseded,
//	         cessationOfOperation, affiliationChanged or privilegeWithdrawn
//	confirm  for revoke: the host's name again
//
// For example:
//
//	curl -d action=retry -d host=www.example.com http://localhost:6060/debug/certs/admin
//
// The answer comes at once and says what was begun; the work goes on after the
// request, until Manager.Close. Its outcome is on the page and in the audit
// trail, whose events name who it was: see certmgr.Manager.Act for the rules. A
// browser (Accept: text/html) is sent back to the page (303). Others get JSON
// with the members action, host, text and state: begun, in_flight (then also
// since and, for an issuance, stage), done (reload, then also entries) or
// unneeded (the host has a valid certificate). If the action was refused, the
// member error says why, and retry_at when it is possible. The statuses are
//
//	200  it is done, or not needed
//	202  it has begun, or was in flight
//	400  the form is wrong
//	403  who refuses, or the request comes from another site
//	404  the host is not allowed, or not known
//	405  it is not POST
//	413  the form is too large
//	415  it is not a form
//	421  it came to a loopback address under another name: see ServedAs
//	422  the allowlist's file is bad, or there is none
//	429  too soon: Retry-After says when
//	503  the Manager is busy or closed, or HostPolicy does not answer
//
// Requests that another site has a browser send are refused, as
// http.CrossOriginProtection does. Programs need no token against forgery, but
// whatever who asks for.
package status
