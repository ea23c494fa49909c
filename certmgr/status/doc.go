// Package status shows what a certmgr.Manager is doing: a page for people and
// the same as JSON for programs. It reads and never changes anything.
//
//	mux.Handle("/debug/certs/", status.Handler(m))
//
// The handler may be mounted at any path, as a subtree or not, and behind
// http.StripPrefix or a proxy that changes the path: it gives the same answer at
// every path and its links are relative. It allows GET and HEAD.
//
// # Who may see it
//
// The page names every host, who was refused, and the causes of failures, and it
// asks nobody for a password. Never put it where strangers can reach it: serve it
// on a port of the loopback or of an internal interface, as net/http/pprof is, or
// behind your own authentication. The example shows how.
//
// # The page
//
// It needs no other files and no other server: style and script are part of it,
// and its Content-Security-Policy allows these two alone, by their hashes. With
// JavaScript it refreshes itself every five seconds while it is in view; it works
// without. All times are in UTC.
//
// # Parameters
//
// The page and the JSON take the same parameters; a value that is not known is an
// error (400) that says what is.
//
//	q       hosts whose name contains this text, 253 bytes at most
//	host    this one host, by its exact name; events are then those of the host
//	state   valid, issuing, backing off, expired or failed (the values of
//	        certmgr.HostState), or attention: hosts whose last attempt failed, and
//	        those without a valid certificate; first attempts are not among them
//	sort    state (default, worst first), host, expiry (soonest first), next (the
//	        next renewal or attempt, soonest first), refused (most first); with a
//	        minus before it the other way round. What has no such time comes last.
//	page    from 1; a page after the last one is the last one
//	limit   hosts on a page, 1 to 1000, 100 if it is missing
//	format  html or json; if it is missing, the Accept header decides
//
// # JSON
//
// Members may be added, none changes its name or meaning. Times are in UTC
// (RFC 3339), errors are one line of text, and what does not apply is left out
// where that is said.
//
//	time       when it was taken
//	closed     whether the Manager was closed
//	ca         directory (URL) and available; if it is not available also
//	           retry_at, before which it is not tried, and error
//	counts     of all hosts, whatever the filter:
//	           hosts (entries: a host with certificates of two key types has two),
//	           states (state to number), attention, renewals_failing (valid
//	           certificates whose last renewal failed), backing_off (whose next
//	           attempt is not due yet), in_flight (issuances), issuing (those that
//	           hold a slot), queued (those that wait for one), waiting (handshakes),
//	           soonest_expiry (host, key_type, not_after; left out if nothing is valid)
//	totals     since the Manager was made: handshakes (result to number, the values
//	           of audit.Result), refused (handshakes), issued
//	           (certificates), failed (issuances, stage to number), events_dropped
//	matched    hosts that the filter lets through
//	page       the number of this page
//	pages      how many there are, at least 1
//	limit      hosts on a page
//	hosts      those of this page: host, key_type (left out if it holds for both),
//	           state, state_since, attention (whether it is among those); and, if
//	           they apply, not_before, not_after, renew_at, renew_by,
//	           explanation_url, in_flight (since, stage, waiting), failure (stage,
//	           time, attempts, attempt, ca, error), retry_at, refused, last_asked
//	events     the last ones, oldest first, in the JSON form of certmgr.Event
package status
