package prommetrics

import (
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/status"
)

// generated is a source of the page and of the collector, with random hosts.
type generated struct{ snap certmgr.Snapshot }

func (g *generated) Snapshot() certmgr.Snapshot               { return g.snap }
func (g *generated) HostEvents(string) (e certmgr.HostEvents) { return e }

// Metrics returns what a Manager in this state does: it fills HostCounts with
// the same function.
func (g *generated) Metrics() certmgr.Metrics {
	return certmgr.Metrics{Time: g.snap.Time, HostCounts: g.snap.Counts()}
}

// generate returns n hosts in random states, some with two key types.
func generate(r *rand.Rand, n int) *generated {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	g := &generated{certmgr.Snapshot{Time: now}}
	for i := range n {
		for _, keyType := range []string{"ECDSA", "RSA"} {
			if keyType == "RSA" && r.IntN(3) > 0 {
				continue
			}
			h := certmgr.HostStatus{Host: fmt.Sprintf("h%04d.example", i), KeyType: keyType, Refused: r.Uint64N(100), StateSince: now}
			h.State = []certmgr.HostState{
				certmgr.StateValid, certmgr.StateIssuing, certmgr.StateBackoff, certmgr.StatePaused, certmgr.StateRejected,
				certmgr.StateWaitingForDNS, certmgr.StateExpired, certmgr.StateFailed,
			}[r.IntN(8)]
			failed := true
			switch h.State {
			case certmgr.StateValid:
				h.NotBefore, h.NotAfter = now.Add(-time.Hour), now.Add(time.Duration(1+r.IntN(2000))*time.Hour)
				failed = r.IntN(2) == 0
			case certmgr.StateExpired:
				h.NotBefore, h.NotAfter = now.Add(-90*24*time.Hour), now.Add(-time.Hour)
				failed = r.IntN(2) == 0
			case certmgr.StateIssuing:
				failed = r.IntN(2) == 0
			}
			if h.State == certmgr.StateValid && r.IntN(4) == 0 {
				h.RenewalCause = certmgr.RenewalCauseUnneeded
			}
			if !h.NotAfter.IsZero() && r.IntN(3) == 0 {
				h.RenewalFailure = certmgr.ErrCAUnavailable
			}
			if h.Issuing = h.State == certmgr.StateIssuing || r.IntN(5) == 0; h.Issuing {
				h.IssuingSince, h.Stage = now, audit.StageOrder
			}
			if failed {
				h.RetryAt = now.Add(time.Duration(r.IntN(3)-1) * time.Hour)
				h.Failure = &certmgr.IssuanceError{Host: h.Host, KeyType: keyType, Stage: audit.StageOrder, Err: errors.New("no"), RetryAt: h.RetryAt}
				if h.State == certmgr.StateWaitingForDNS || r.IntN(4) == 0 {
					h.Failure.State = certmgr.StateWaitingForDNS
				}
			}
			g.snap.Hosts = append(g.snap.Hosts, h)
		}
	}
	return g
}

// page returns the status page as text, and its JSON.
func (g *generated) page(t *testing.T) (text string, data map[string]any) {
	t.Helper()
	var bodies [2]string
	for i, format := range []string{"html", "json"} {
		w := httptest.NewRecorder()
		status.Handler(g).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/?limit=1000&format="+format, nil))
		if w.Code != http.StatusOK {
			t.Fatal(w.Body)
		}
		bodies[i] = w.Body.String()
	}
	if err := json.Unmarshal([]byte(bodies[1]), &data); err != nil {
		t.Fatal(err)
	}
	_, body, _ := strings.Cut(bodies[0], "<body>")
	text = regexp.MustCompile(`<[^>]*>`).ReplaceAllString(body, " ")
	return strings.Join(strings.Fields(html.UnescapeString(text)), " "), data
}

// shown returns the number in a text after a name, 0 if it is not there.
func shown(text, name string) float64 {
	m := regexp.MustCompile(regexp.QuoteMeta(name) + ` ([\d,]+)`).FindStringSubmatch(text)
	if m == nil {
		return 0
	}
	n, _ := strconv.ParseFloat(strings.ReplaceAll(m[1], ",", ""), 64)
	return n
}

// inputs are the series that alerts about these hosts look at, with what the
// rule compares.
var inputs = map[string]string{
	"CertmgrCertificateExpired":      `certmgr_hosts{state="expired"}`,
	"CertmgrHostsWithoutCertificate": `certmgr_hosts_failing`,
	"CertmgrRenewalsLate":            `certmgr_renewals_late`,
	"CertmgrCertificateExpiresSoon":  `certmgr_least_lifetime_left_ratio`,
	"CertmgrCertificateExpiresToday": `certmgr_soonest_expiry_timestamp_seconds`,
	"CertmgrOwnCertificateExpires":   `certmgr_own_soonest_expiry_timestamp_seconds`,
}

// In whatever state hosts are, page, JSON, metrics and the inputs of the alerts
// count the same as expired, failing, late and in each state.
func TestPageJSONMetricsAndAlertsAgree(t *testing.T) {
	rules := alertRules(t)
	for alert, series := range inputs {
		if !strings.Contains(rules[alert], series) {
			t.Errorf("%s does not look at %s", alert, series)
		}
	}
	for seed := range uint64(150) {
		r := rand.New(rand.NewPCG(seed, 1))
		g := generate(r, r.IntN(30))
		text, data := g.page(t)
		counts := data["counts"].(map[string]any)
		states := counts["states"].(map[string]any)
		exported := scrape(t, func(reg prometheus.Registerer) { reg.MustRegister(newCollector(g)) })
		metric := func(series string) float64 { return shown(exported, series) }
		same := func(what string, values ...float64) {
			t.Helper()
			for _, v := range values {
				if v != values[0] {
					t.Errorf("seed %d: %s by definition, page, JSON and metric: %v", seed, what, values)
				}
			}
		}
		failing, late, expired := 0.0, 0.0, 0.0
		listed := 0.0 // in the JSON, host by host
		for i := range g.snap.Hosts {
			h := &g.snap.Hosts[i]
			switch { // from the words of the documentation, not by its methods
			case h.State == certmgr.StateExpired:
				expired++
				failing++
			case h.State == certmgr.StateValid:
				if h.RenewalCause != certmgr.RenewalCauseUnneeded && (h.Failure != nil || h.RenewalFailure != nil) {
					late++
				}
			case h.State != certmgr.StateIssuing || h.Failure != nil:
				failing++
			}
		}
		for _, h := range data["hosts"].([]any) {
			if h.(map[string]any)["attention"].(bool) {
				listed++
			}
		}
		same("expired", expired, shown(text, "Expired"), states["expired"].(float64), metric(`certmgr_hosts{state="expired"}`))
		if len(g.snap.Hosts) > 0 {
			same("failing", failing, shown(text, "Failing"), counts["failing"].(float64), metric("certmgr_hosts_failing"))
			same("late", late, shown(text, "Renewals failing"), counts["renewals_failing"].(float64), metric("certmgr_renewals_late"))
		}
		same("needing attention", failing+late, shown(text, "Needs attention"), counts["attention"].(float64), listed,
			metric("certmgr_hosts_failing")+metric("certmgr_renewals_late"))
		same("backing off", float64(g.snap.Counts().BackingOff), counts["backing_off"].(float64), metric("certmgr_hosts_backing_off"))
		for state, n := range states {
			same(state, n.(float64), metric(`certmgr_hosts{state="`+strings.ReplaceAll(state, " ", "_")+`"}`))
		}
		grouped := 0.0
		for _, c := range data["causes"].([]any) {
			grouped += c.(map[string]any)["hosts"].(float64)
		}
		if grouped > failing+late || grouped == 0 && failing+late > 0 {
			t.Errorf("seed %d: %v hosts have a cause, %v need attention", seed, grouped, failing+late)
		}
	}
}
