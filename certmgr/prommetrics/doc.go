// Package prommetrics exports the metrics of a [certmgr.Manager] to Prometheus:
//
//	prometheus.MustRegister(prommetrics.NewCollector(manager))
//
// With several Managers in one process each gets a label of its own, which the
// dashboard knows by the name "manager":
//
//	for name, m := range managers {
//		labels := prometheus.Labels{"manager": name}
//		prometheus.WrapRegistererWith(labels, registry).MustRegister(prommetrics.NewCollector(m))
//	}
//
// # Metrics
//
//	certmgr_handshakes_total{result}              handshakes by how they ended, an audit.Result
//	certmgr_certificates_issued_total             certificates issued
//	certmgr_issuance_failures_total{stage}        issuances that failed, by the certmgr.Stage where they did
//	certmgr_issuance_duration_seconds             histogram: from an issuance's start to its certificate
//	certmgr_ca_requests_total{endpoint,status}    requests to the CA; status is the HTTP status, or "none" without a reply
//	certmgr_events_total{kind}                    events by audit.Kind
//	certmgr_events_dropped_total                  events lost because Manager.Audit is too slow
//	certmgr_hosts{state}                          hosts and key types, by certmgr.HostState with "_" for a space
//	certmgr_hosts_backing_off                     hosts whose next attempt is not due yet
//	certmgr_renewals_late                         valid certificates whose renewal fails
//	certmgr_issuances_in_flight                   issuances in flight, queued ones included
//	certmgr_issuances_queued                      issuances that wait for a slot
//	certmgr_issuances_limit                       issuances that may hold a slot, by Manager.MaxIssuing
//	certmgr_handshakes_waiting                    handshakes that wait
//	certmgr_handshakes_waiting_limit              handshakes that may wait, by Manager.MaxWaiting
//	certmgr_soonest_expiry_timestamp_seconds      end of the valid certificate that ends first
//	certmgr_ca_unavailable                        1 while the CA is not tried because it failed as a whole, else 0
//	certmgr_no_account                            1 while it is not tried because there is no account, else 0
//	certmgr_ca_retry_timestamp_seconds            when the CA is tried again, for both
//
// Times are Unix times in seconds. What does not exist has no series, and not a
// zero or NaN that a rule would have to know about: soonest_expiry while no
// certificate is valid, ca_retry while the CA is in use, issuances_limit if there is
// none. All results, stages,
// kinds and states have a series from the start, as have the statuses "429" and "none" of
// each endpoint, since Prometheus cannot see the increase of a series that begins
// with 1.
//
// No label holds anything that a stranger or a host name can change: the number of
// series is bounded, and the same for one host and for a million.
//
// # Alerts and dashboard
//
// Beside this file are alerts.yml, rules for Prometheus, and grafana.json, a
// dashboard for import into Grafana. What to do about each alert is in
// docs/runbook.md.
package prommetrics
