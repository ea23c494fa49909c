package sim

import (
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// bug is a mistake: in file, a path from the root, old is replaced by changed.
type bug struct{ name, file, old, changed string }

// bugs holds mistakes that the simulation must find, by the test that must.
var bugs = map[string][]bug{
	"TestTenYears": {
		{"a renewal that failed is not tried again", "certmgr/renewal.go",
			"ctx.Err() == nil {\n\t\tr.schedule.again(sub, cert, r.retryAt(sub, err), err)",
			"ctx.Err() == nil {\n\t\tr.schedule.at(sub, r.now().AddDate(50, 0, 0))"},
		{"an expired certificate is served", "certmgr/certificate.go",
			"return s < c.expires ||",
			"return s > 0 ||"},
		{"a cache that cannot be read counts as empty", "certmgr/store.go",
			"case errors.Is(err, ErrCacheMiss):",
			"case errors.Is(err, ErrCacheMiss), true:"},
		{"failed attempts are forgotten", "certmgr/failure.go",
			"if rec == nil || rec.wait().IsOver(now) {",
			"if rec == nil || true {"},
		{"the CA's suggestion to renew is not followed", "internal/renewal/plan.go",
			"if w.picked.IsZero() {\n\t\treturn byAge",
			"if true {\n\t\treturn byAge"},
		{"orders do not ask for the profile of the settings", "certmgr/orders.go",
			"return want.name, err",
			"return want.name[:0], err"},
		{"an own certificate that has expired is served", "certmgr/own.go",
			"return !now.Before(c.notBefore) && !now.After(c.notAfter)",
			"return !now.Before(c.notBefore)"},
		{"issuance does not take over from an own certificate", "certmgr/ownwatch.go",
			"w.takeOver(slices.Values(c.names), now)\n\tthen :=",
			"then :="},
		{"a certificate is ordered although the own one is good", "certmgr/own.go",
			"if !o.until(host, now).After(now) {\n\t\t\treturn nil",
			"if host != \"\" {\n\t\t\treturn nil"},
		{"a damaged own certificate replaces the good one", "certmgr/ownwatch.go",
			"case have != nil && have.isValid(now):",
			"case false:"},
		{"an issuance has no event", "certmgr/issuance.go",
			"is.audit.Emit(i.event(audit.Event{\n\t\t\tKind:     audit.CertificateIssued,",
			"func(audit.Event) {}(i.event(audit.Event{\n\t\t\tKind:     audit.CertificateIssued,"},
	},
	"TestTenYearsOfAFleet": {
		{"writes are not fenced", "certmgr/lease.go",
			"return cache.Guard(ctx, l.lease)",
			"return ctx"},
		{"the certificate is not looked for under the lease", "certmgr/fleetissue.go",
			"case cert != nil:\n\t\treturn errHave{cert}",
			"case cert != nil && false:"},
		{"a lease that was lost does not stop the attempt", "certmgr/lease.go",
			"stop := context.AfterFunc(l.ended, func() { cancel(context.Cause(l.ended)) })\n\tcheck := func() error {\n\t\terr := l.check()",
			"stop := func() bool { return true }\n\tcheck := func() error {\n\t\terr := error(nil)"},
		{"followers never look", "certmgr/follow.go",
			"if w.isChanged(values) {",
			"if false && w.isChanged(values) {"},
	},
	"TestNewHosts": {
		{"an unfinished order is not resumed", "certmgr/orderkeep.go",
			"\treturn k.now\n}",
			"\treturn nil\n}"},
		{"the key of an order is not written before it is used", "certmgr/orderkeep.go",
			"k.tried.URL != u.URL || k.tried.Key != u.Key",
			"k.tried.URL != u.URL"},
		{"the entry of an order is deleted before the certificate is stored", "certmgr/fleetissue.go",
			"settle := is.settle(i, out)\n",
			"settle := is.settle(i, out)\n\tsettle(context.Background())\n"},
		{"the entry of an order is not deleted", "certmgr/fleetissue.go",
			"{ settle(lease.guard(ctx)) }",
			"{ _ = settle }"},
		{"an order that the CA does not know for a moment is given up", "internal/order/unfinished.go",
			"missing >= missingFor",
			"missing >= 0"},
		{"a chain whose leaf is not the first is not accepted", "internal/bundle/chain.go",
			"leaf := slices.IndexFunc(pool,",
			"leaf := slices.IndexFunc(pool[:min(1, len(pool))],"},
		{"a Retry-After does not set the next attempt", "certmgr/trouble.go",
			"longest = max(longest, d)",
			"longest = max(longest, d/100)"},
		{"after an order that failed in an outage there is no other", "certmgr/breaker.go",
			"if v.one {\n\t\tb.out.trying = false",
			"if false {\n\t\tb.out.trying = false"},
		{"a CA that is out of service for some minutes is probed too seldom", "internal/pace/outage.go",
			"return 30 * time.Second",
			"return 5 * time.Minute"},
		{"a failure of the account counts against the host", "certmgr/trouble.go",
			"case stage == audit.StageAccount || trace.Failed()",
			"case trace.Failed()"},
		{"appointments go by the monotonic clock", "certmgr/clock.go",
			"return wall().Round(0)",
			"return wall()"},
		{"attempts that are cut short do not count", "certmgr/attempts.go",
			"if began := a.unknown(); len(began) >= maxAttempts {",
			"if began := a.unknown(); len(began) >= 1000 {"},
		{"strangers leave nothing of the order budget", "certmgr/orderbudget.go",
			"return b.size / 2",
			"return 0"},
		{"turns that passed unused are used all at once", "certmgr/pace.go",
			"case pl.turn < ran-maxLate:",
			"case false:"},
	},
}

// A change of the code can remove the place of a planted bug.
func TestBugsHaveAPlace(t *testing.T) {
	for _, list := range bugs {
		for _, bug := range list {
			t.Run(bug.name, func(t *testing.T) { overlay(t, bug) })
		}
	}
}

// TestBugsAreFound shows that the simulation finds bugs. Each bug is planted in
// a copy of one file, which the go command compiles instead of the original (go
// help build, -overlay): production code has no hooks for it. The test must
// report a violation with one of the seeds that CI runs.
func TestBugsAreFound(t *testing.T) {
	if !*plantBugs {
		t.Skip("takes a minute: run it with -sim.bugs, as CI does")
	}
	for _, test := range slices.Sorted(maps.Keys(bugs)) {
		for _, bug := range bugs[test] {
			t.Run(bug.name, func(t *testing.T) {
				out := runWith(t, overlay(t, bug), test)
				report, _, found := strings.Cut(out, violationMark)
				if !found {
					t.Errorf("no seed found it\n%s", tail(out))
				}
				t.Log(tail(report))
			})
		}
	}
}

// overlay returns a file that makes the go command use a changed copy.
func overlay(t *testing.T, b bug) string {
	t.Helper()
	real, err := filepath.Abs(filepath.Join("..", "..", filepath.FromSlash(b.file)))
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile(real)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(source), b.old); n != 1 {
		t.Fatalf("%s holds %q %d times, want once: write the bug anew", b.file, b.old, n)
	}
	dir := t.TempDir()
	copied := filepath.Join(dir, filepath.Base(b.file))
	if err := os.WriteFile(copied, []byte(strings.Replace(string(source), b.old, b.changed, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	replace, err := json.Marshal(map[string]map[string]string{"Replace": {real: copied}})
	if err != nil {
		t.Fatal(err)
	}
	list := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(list, replace, 0o600); err != nil {
		t.Fatal(err)
	}
	return list
}

// runWith runs a test of the simulation with an overlay, one seed after the
// other until one fails, and returns its output.
func runWith(t *testing.T, overlay, test string) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "sim.test")
	if out, err := exec.CommandContext(t.Context(), "go", "test", "-c", "-o", program, "-overlay", overlay, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var out []byte
	for seed := range uint64(*seedCount) {
		cmd := exec.CommandContext(t.Context(), program, "-test.run", "^"+test+"$", "-test.timeout", "5m",
			"-sim.seed", strconv.FormatUint(*firstSeed+seed, 10), "-sim.seeds", "1", "-sim.hosts", strconv.Itoa(*hostCount), "-sim.years", strconv.Itoa(*yearCount))
		var err error
		if out, err = cmd.CombinedOutput(); err != nil {
			break
		}
	}
	return string(out)
}

func tail(s string) string {
	const most = 1500
	if len(s) > most {
		return "... " + s[len(s)-most:]
	}
	return s
}
