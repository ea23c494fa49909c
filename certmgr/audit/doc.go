// Package audit is the vocabulary of a Manager's audit trail: events, their kinds,
// the results of handshakes and the stages of an issuance, and hooks for
// Manager.Audit that write events to a log or as JSON.
//
// Kinds, results and stages are closed sets whose strings are stable: they are what
// logs, metrics and alert rules go by. See docs/runbook.md for what each means and
// what to do.
package audit
