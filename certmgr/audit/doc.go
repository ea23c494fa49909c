// Package audit is the vocabulary of a Manager's audit trail: events, their
// kinds, the results of handshakes, the stages of an issuance, and hooks for
// Manager.Audit that write events to a log or as JSON.
//
// Kinds, results and stages are closed sets of stable strings, so logs, metrics
// and alert rules can match on them. docs/runbook.md explains what each means
// and what to do about it.
package audit
