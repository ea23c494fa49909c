package prommetrics

import (
	"flag"
	"math"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/acmeclient"
)

var update = flag.Bool("update", false, "write the golden file")

// fixed is a source with constant metrics.
type fixed certmgr.Metrics

func (f fixed) Metrics() certmgr.Metrics { return certmgr.Metrics(f) }

// busy is the metrics of a Manager that has seen everything once.
func busy() fixed {
	f := fixed{
		Time: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), Handshakes: make(map[audit.Result]uint64), Issued: 7,
		Failed: make(map[audit.Stage]uint64),
		TimeToCertificate: certmgr.DurationHistogram{
			Bounds: []time.Duration{500 * time.Millisecond, time.Second, time.Minute},
			Counts: []uint64{1, 3, 2, 1},
			Sum:    200 * time.Second,
		},
		CARequests: []certmgr.CARequestCount{
			{Endpoint: "directory", Status: 200, Count: 4}, {Endpoint: "newOrder", Status: 0, Count: 2},
			{Endpoint: "newOrder", Status: 201, Count: 8}, {Endpoint: "newOrder", Status: 429, Count: 1},
			{Endpoint: "other", Status: 200, Count: 60},
		},
		Events: make(map[audit.Kind]uint64), EventsDropped: 3,
		HostCounts: certmgr.HostCounts{
			Hosts: map[certmgr.HostState]int{certmgr.StateValid: 5, certmgr.StateIssuing: 2, certmgr.StateBackoff: 1,
				certmgr.StatePaused: 3, certmgr.StateRejected: 0, certmgr.StateWaitingForDNS: 2, certmgr.StateExpired: 0, certmgr.StateFailed: 1},
			HostsFailing: 8, InFlight: 3, BackingOff: 2, RenewalsLate: 1,
			LeastLeft: 0.25, SoonestExpiry: time.Date(2026, 3, 20, 0, 0, 0, 0, time.UTC), OwnSoonestExpiry: time.Date(2026, 4, 20, 0, 0, 0, 0, time.UTC),
		},
		Queued: 1, IssuingLimit: 16, Waiting: 4, WaitingLimit: 1000, Warnings: 2,
		CAUnavailable: time.Date(2026, 3, 1, 12, 5, 0, 0, time.UTC),
		OrderBudget:   300, OrdersLeft: 212,
	}
	for i, r := range audit.Results() {
		f.Handshakes[r] = uint64(1000 >> i)
	}
	for i, k := range audit.Kinds() {
		f.Events[k] = uint64(i)
	}
	for i, s := range []audit.Stage{audit.StageQueue, audit.StageAccount, audit.StageOrder, audit.StageAuthorization,
		audit.StageChallenge, audit.StageFinalize, audit.StageStore} {
		f.Failed[s] = uint64(i)
	}
	return f
}

// scrape returns what Prometheus gets. The registry refuses metrics that
// Describe did not announce, duplicate labels and the like.
func scrape(t *testing.T, register func(r prometheus.Registerer)) string {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	register(registry)
	w := httptest.NewRecorder()
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{ErrorHandling: promhttp.HTTPErrorOnError}).
		ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != 200 {
		t.Fatalf("scraping failed: %s", w.Body)
	}
	return w.Body.String()
}

// series returns the lines that are not comments, without their values.
func series(text string) []string {
	var all []string
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "#") {
			all = append(all, line[:strings.LastIndexByte(line, ' ')])
		}
	}
	return all
}

func TestExposition(t *testing.T) {
	got := scrape(t, func(r prometheus.Registerer) { r.MustRegister(newCollector(busy())) })
	golden := filepath.Join("testdata", "metrics.txt")
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("what Prometheus gets has changed, which may break users' rules and dashboards. Is:\n%s\nWas:\n%s\n"+
			"If that is intended, run go test -run TestExposition -update", got, want)
	}
}

func TestNamesFollowTheConventions(t *testing.T) {
	for name, f := range map[string]fixed{"busy": busy(), "new": {}} {
		problems, err := testutil.CollectAndLint(newCollector(f))
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range problems {
			t.Errorf("%s: %s: %s", name, p.Metric, p.Text)
		}
	}
}

func TestDescribeIsComplete(t *testing.T) {
	descs := make(chan *prometheus.Desc, 100)
	newCollector(busy()).Describe(descs)
	close(descs)
	var described []string
	for d := range descs {
		described = append(described, regexp.MustCompile(`fqName: "([^"]*)"`).FindStringSubmatch(d.String())[1])
	}
	slices.Sort(described)
	if collected := metricNames(t); !slices.Equal(described, collected) {
		t.Errorf("Describe announces\n%q, Collect sends\n%q", described, collected)
	}
}

// metricNames returns the names of all metrics, sorted.
func metricNames(t *testing.T) []string {
	t.Helper()
	text := scrape(t, func(r prometheus.Registerer) { r.MustRegister(newCollector(busy())) })
	var names []string
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (\S+)`).FindAllStringSubmatch(text, -1) {
		names = append(names, m[1])
	}
	slices.Sort(names)
	return names
}

func TestWhatDoesNotExistHasNoSeries(t *testing.T) {
	idle := busy()
	idle.SoonestExpiry, idle.CAUnavailable, idle.IssuingLimit = time.Time{}, time.Time{}, math.MaxInt // as with a negative MaxIssuing
	idle.OwnSoonestExpiry = time.Time{}
	text := scrape(t, func(r prometheus.Registerer) { r.MustRegister(newCollector(idle)) })
	for _, name := range []string{"certmgr_soonest_expiry_timestamp_seconds", "certmgr_ca_retry_timestamp_seconds", "certmgr_issuances_limit"} {
		if strings.Contains(text, name) {
			t.Errorf("%s has a series though there is nothing to say:\n%s", name, text)
		}
	}
	if !strings.Contains(text, "\ncertmgr_ca_unavailable 0\n") {
		t.Errorf("certmgr_ca_unavailable is not 0:\n%s", text)
	}
	if strings.Contains(text, "NaN") {
		t.Errorf("a rule would have to know about NaN:\n%s", text)
	}
}

// They alert different people, so they are different metrics.
func TestNoAccountIsNotTheCAsFailure(t *testing.T) {
	for noAccount, want := range map[bool]string{
		false: "certmgr_ca_unavailable 1\ncertmgr_no_account 0\n", true: "certmgr_ca_unavailable 0\ncertmgr_no_account 1\n",
	} {
		f := busy()
		f.NoAccount = noAccount
		text := scrape(t, func(r prometheus.Registerer) { r.MustRegister(newCollector(f)) })
		var got string
		for line := range strings.Lines(text) {
			if strings.HasPrefix(line, "certmgr_ca_unavailable ") || strings.HasPrefix(line, "certmgr_no_account ") {
				got += line
			}
		}
		if got != want || !strings.Contains(text, "\ncertmgr_ca_retry_timestamp_seconds ") {
			t.Errorf("no account: %t; got %q, want %q and the next attempt", noAccount, got, want)
		}
	}
}

// Prometheus sees no increase of a series that begins with 1.
func TestLimitsOfTheCAHaveSeriesFromTheStart(t *testing.T) {
	text := scrape(t, func(r prometheus.Registerer) { r.MustRegister(newCollector(fixed{})) })
	for _, e := range endpoints() {
		for _, status := range []string{"429", "none"} {
			if want := `certmgr_ca_requests_total{endpoint="` + e + `",status="` + status + `"} 0`; !strings.Contains(text, want) {
				t.Errorf("no %s", want)
			}
		}
	}
}

func TestEndpointsAreThoseOfTheClient(t *testing.T) {
	var want []string
	for e := acmeclient.EndpointDirectory; e <= acmeclient.EndpointOther; e++ {
		want = append(want, e.String())
	}
	if got := endpoints(); !slices.Equal(got, want) {
		t.Errorf("endpoints %q, want %q", got, want)
	}
}

func TestManagersAreToldApartByALabel(t *testing.T) {
	r := prometheus.NewPedanticRegistry()
	if err := r.Register(newCollector(busy())); err != nil {
		t.Fatal(err)
	}
	if err := r.Register(newCollector(busy())); err == nil {
		t.Error("a second Manager without a label was registered: their counts would be mixed up")
	}
	text := scrape(t, func(r prometheus.Registerer) {
		for _, name := range []string{"a", "b"} {
			prometheus.WrapRegistererWith(prometheus.Labels{"manager": name}, r).MustRegister(newCollector(busy()))
		}
	})
	for _, want := range []string{`certmgr_handshakes_waiting{manager="a"} 4`, `certmgr_handshakes_waiting{manager="b"} 4`} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
}
