package prommetrics

import (
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nostall/nostall/certmgr"
)

// NewCollector returns a collector of m's metrics. Register it once. Each
// scrape calls m.Metrics, which visits each host once and does no I/O. The
// collector is safe for concurrent use, also after m.Close. A second Manager in
// the same registry needs a distinguishing label; see the package
// documentation.
func NewCollector(m *certmgr.Manager) prometheus.Collector { return newCollector(m) }

// source is the part of a Manager that the collector uses.
type source interface{ Metrics() certmgr.Metrics }

var _ source = (*certmgr.Manager)(nil)

// collector is immutable. Describe sends all of its descriptions and Collect
// uses no others, so a registry can check both.
type collector struct {
	source source

	handshakes, issued, failures, duration, requests, events, dropped       *prometheus.Desc
	hosts, failing, backingOff, late, inFlight, queued, issuingLimit        *prometheus.Desc
	waiting, waitingLimit, expiry, leastLeft, unavailable, noAccount, retry *prometheus.Desc
	warnings, orderBudget, ordersLeft, ownExpiry                            *prometheus.Desc
}

var _ prometheus.Collector = (*collector)(nil)

// prefix begins all metric names.
const prefix = "certmgr_"

func newCollector(s source) *collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(prefix+name, help, labels, nil)
	}
	return &collector{
		source: s,

		handshakes: desc("handshakes_total", "TLS handshakes by how they ended.", "result"),
		issued:     desc("certificates_issued_total", "Certificates issued."),
		failures:   desc("issuance_failures_total", "Issuances that failed, by the stage where they did.", "stage"),
		duration:   desc("issuance_duration_seconds", "Time from the start of an issuance to its certificate, of those that succeeded."),
		requests: desc("ca_requests_total", "Requests to the CA by endpoint and HTTP status, none for no reply. Each try counts.",
			"endpoint", "status"),
		events:  desc("events_total", "Events by kind, those that were lost included.", "kind"),
		dropped: desc("events_dropped_total", "Events lost because the audit hook is too slow."),

		hosts: desc("hosts", "Hosts and key types by state.", "state"),
		failing: desc("hosts_failing", "Hosts and key types without a valid certificate, for which an attempt has failed, "+
			"or whose name does not lead here, or whose certificate has expired."),
		backingOff:   desc("hosts_backing_off", "Hosts whose next attempt is not due yet, those with a valid certificate included."),
		late:         desc("renewals_late", "Valid certificates that were due and could not be renewed."),
		inFlight:     desc("issuances_in_flight", "Issuances in flight, those that wait for a slot included."),
		queued:       desc("issuances_queued", "Issuances that wait for a slot."),
		waiting:      desc("handshakes_waiting", "TLS handshakes that wait for a certificate."),
		issuingLimit: desc("issuances_limit", "Issuances that may hold a slot. Absent without a limit."),
		waitingLimit: desc("handshakes_waiting_limit", "TLS handshakes that may wait. More are refused."),
		expiry: desc("soonest_expiry_timestamp_seconds",
			"Unix time at which the first of the valid certificates ends. Absent if there are none."),
		leastLeft: desc("least_lifetime_left_ratio",
			"The smallest part of its lifetime that one of the valid certificates has left. Absent if there are none."),
		ownExpiry: desc("own_soonest_expiry_timestamp_seconds",
			"Unix time at which the first of the operator's own certificates ends whose place nothing takes. Absent if there are none."),
		unavailable: desc("ca_unavailable", "Whether the CA is not tried because it failed as a whole."),
		noAccount:   desc("no_account", "Whether the CA is not tried because there is no account, for a reason that is not the CA's."),
		warnings:    desc("warnings", "Warnings about how the Manager is set up, on the status page and in the log."),
		orderBudget: desc("order_budget", "Orders that the account may place in 3 hours. Absent without a limit."),
		ordersLeft:  desc("orders_left", "Orders of certmgr_order_budget that are left. Absent without a limit."),
		retry:       desc("ca_retry_timestamp_seconds", "Unix time before which the CA is not tried. Absent while the CA is in use."),
	}
}

// Describe implements [prometheus.Collector].
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		c.handshakes, c.issued, c.failures, c.duration, c.requests, c.events, c.dropped,
		c.hosts, c.failing, c.backingOff, c.late, c.inFlight, c.queued, c.issuingLimit,
		c.waiting, c.waitingLimit, c.expiry, c.leastLeft, c.unavailable, c.noAccount, c.retry,
		c.warnings, c.orderBudget, c.ordersLeft, c.ownExpiry,
	} {
		ch <- d
	}
}

// Collect implements [prometheus.Collector].
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	m := c.source.Metrics()
	counter := func(d *prometheus.Desc, n uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	for result, n := range m.Handshakes {
		counter(c.handshakes, n, string(result))
	}
	counter(c.issued, m.Issued)
	for stage, n := range m.Failed {
		counter(c.failures, n, string(stage))
	}
	ch <- c.histogram(m.TimeToCertificate)
	for key, n := range requests(m.CARequests) {
		counter(c.requests, n, key.endpoint, key.status)
	}
	for kind, n := range m.Events {
		counter(c.events, n, string(kind))
	}
	counter(c.dropped, m.EventsDropped)
	c.collectState(m, gauge)
}

// collectState sends the gauges; Collect sends the counters.
func (c *collector) collectState(m certmgr.Metrics, gauge func(d *prometheus.Desc, v float64, labels ...string)) {
	for state, n := range m.Hosts {
		gauge(c.hosts, float64(n), strings.ReplaceAll(string(state), " ", "_"))
	}
	gauge(c.failing, float64(m.HostsFailing))
	gauge(c.backingOff, float64(m.BackingOff))
	gauge(c.late, float64(m.RenewalsLate))
	gauge(c.inFlight, float64(m.InFlight))
	gauge(c.queued, float64(m.Queued))
	if m.IssuingLimit != math.MaxInt {
		gauge(c.issuingLimit, float64(m.IssuingLimit))
	}
	gauge(c.waiting, float64(m.Waiting))
	gauge(c.waitingLimit, float64(m.WaitingLimit))
	if !m.SoonestExpiry.IsZero() {
		gauge(c.expiry, unixSeconds(m.SoonestExpiry))
		gauge(c.leastLeft, m.LeastLeft)
	}
	if !m.OwnSoonestExpiry.IsZero() {
		gauge(c.ownExpiry, unixSeconds(m.OwnSoonestExpiry))
	}
	down := !m.CAUnavailable.IsZero()
	gauge(c.unavailable, number(down && !m.NoAccount))
	gauge(c.noAccount, number(m.NoAccount))
	gauge(c.warnings, float64(m.Warnings))
	if m.OrderBudget > 0 {
		gauge(c.orderBudget, float64(m.OrderBudget))
		gauge(c.ordersLeft, float64(m.OrdersLeft))
	}
	if down {
		gauge(c.retry, unixSeconds(m.CAUnavailable))
	}
}

// number returns a bool as a Prometheus value.
func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// histogram returns h in Prometheus' form: cumulative buckets.
func (c *collector) histogram(h certmgr.DurationHistogram) prometheus.Metric {
	buckets := make(map[float64]uint64, len(h.Bounds))
	var n uint64
	for i, bound := range h.Bounds {
		n += h.Counts[i]
		buckets[bound.Seconds()] = n
	}
	return prometheus.MustNewConstHistogram(c.duration, h.Count(), h.Sum.Seconds(), buckets)
}

// endpoints returns all values of CARequestCount.Endpoint.
func endpoints() []string {
	return []string{"directory", "newNonce", "newAccount", "newOrder", "revokeCert", "keyChange", "renewalInfo", "other"}
}

const (
	statusNone    = "none" // there was no reply
	statusLimited = "429"
)

type requestKey struct{ endpoint, status string }

// requests returns the counts by their labels. Those that alerts use are
// present even if they are 0.
func requests(counts []certmgr.CARequestCount) map[requestKey]uint64 {
	all := make(map[requestKey]uint64)
	for _, e := range endpoints() {
		all[requestKey{e, statusNone}] = 0
		all[requestKey{e, statusLimited}] = 0
	}
	for _, n := range counts {
		status := statusNone
		if n.Status != 0 {
			status = strconv.Itoa(n.Status)
		}
		all[requestKey{n.Endpoint, status}] += n.Count
	}
	return all
}

func unixSeconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }
