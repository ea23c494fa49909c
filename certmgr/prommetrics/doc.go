// Package prommetrics exports the metrics of a [certmgr.Manager] to Prometheus:
//
//	prometheus.MustRegister(prommetrics.NewCollector(manager))
//
// With several Managers in one process, give each a label of its own. The
// dashboard expects it to be named "manager":
//
//	for name, m := range managers {
//		labels := prometheus.Labels{"manager": name}
//		prometheus.WrapRegistererWith(labels, registry).MustRegister(prommetrics.NewCollector(m))
//	}
//
// # Metrics
//
//	certmgr_handshakes_total{result}              handshakes by audit.Result
//	certmgr_certificates_issued_total             certificates issued
//	certmgr_issuance_failures_total{stage}        failed issuances, by the audit.Stage where they failed
//	certmgr_issuance_duration_seconds             histogram: from the start of an issuance to its certificate
//	certmgr_ca_requests_total{endpoint,status}    requests to the CA; status is the HTTP status, or "none" without a reply
//	certmgr_events_total{kind}                    events by audit.Kind
//	certmgr_events_dropped_total                  events lost because Manager.Audit is too slow
//	certmgr_hosts{state}                          hosts and key types, by certmgr.HostState with "_" for a space
//	certmgr_hosts_failing                         those without a valid certificate that have failed, lead elsewhere or expired
//	certmgr_hosts_backing_off                     hosts whose next attempt is not due yet
//	certmgr_renewals_late                         valid certificates that were due and could not be renewed
//	certmgr_issuances_in_flight                   issuances in flight, including queued ones
//	certmgr_issuances_queued                      issuances waiting for a slot
//	certmgr_issuances_limit                       issuances that may hold a slot, by Manager.MaxIssuing
//	certmgr_handshakes_waiting                    handshakes waiting for a certificate
//	certmgr_handshakes_waiting_limit              handshakes that may wait, by Manager.MaxWaiting
//	certmgr_soonest_expiry_timestamp_seconds      when the first of the valid certificates expires
//	certmgr_least_lifetime_left_ratio             the smallest part of its lifetime that one of them has left
//	certmgr_ca_unavailable                        1 while the CA is not tried because it failed as a whole, else 0
//	certmgr_no_account                            1 while it is not tried because there is no account, else 0
//	certmgr_ca_retry_timestamp_seconds            when the CA is tried again, for both
//
// Times are Unix times in seconds. A value that does not exist has no series,
// so rules need not exclude a zero or NaN: soonest_expiry while no certificate
// is valid, ca_retry while the CA is in use, issuances_limit if there is no
// limit. All results, stages, kinds and states have a series from the start, as
// have the statuses "429" and "none" of each endpoint: Prometheus cannot see
// the increase of a series that begins with 1.
//
// No label depends on client input or host names: the number of series is
// bounded, and the same for one host as for a million.
//
// The values of certmgr_hosts, certmgr_hosts_failing and certmgr_renewals_late
// are those of [certmgr.HostCounts], as on the status page: which hosts are
// expired, failing and late is defined in one place, next to that type.
//
// # Alerts and dashboard
//
// Next to this file are alerts.yml, rules for Prometheus, and grafana.json, a
// dashboard for import into Grafana. docs/runbook.md says what to do about each
// alert.
package prommetrics
