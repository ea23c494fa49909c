package integration

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"image/png"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/status"
)

var screenshots = flag.String("status.screenshots", "", "absolute path of a directory for pictures of the status page")

// statusSite serves the status page of a source below /debug/certs/, as users
// do.
func statusSite(t *testing.T, s status.Source) *httptest.Server {
	t.Helper()
	mux := http.NewServeMux()
	mux.Handle("/debug/certs/", status.Handler(s))
	site := httptest.NewServer(mux)
	t.Cleanup(site.Close)
	return site
}

// hostsShown is an expression for the names in the table, in order.
const hostsShown = `[...document.querySelectorAll("tbody th.host a, .cells a")].map(a => a.textContent).join(" ")`

func TestStatusPageInChromium(t *testing.T) {
	browser := startBrowser(t)
	for _, test := range []struct {
		name string
		run  func(*testing.T, *tab, *fleet)
	}{
		{"shows each state", showsStates},
		{"filters by name and state", filters},
		{"filters, sorts and pages without JavaScript", worksWithoutScript},
		{"shows one host", showsOneHost},
		{"refreshes itself in place", refreshes},
		{"rests while it is hidden or paused", rests},
		{"is light and dark", isLightAndDark},
		{"fits a phone", fitsPhone},
		{"shows 300 hosts on three screens", fitsThreeScreens},
		{"leaves disclosures as the reader has them", keepsDisclosures},
		{"runs nothing that hosts and CAs say", runsNothing},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFleet()
			test.run(t, newTab(t, browser, statusSite(t, f)), f)
		})
	}
	t.Run("says that the server is gone", func(t *testing.T) { saysUnreachable(t, browser) })
	if *screenshots != "" {
		t.Run("screenshots", func(t *testing.T) {
			takeScreenshots(t, newTab(t, browser, statusSite(t, newFleet())))
		})
	}
}

func showsStates(t *testing.T, tb *tab, _ *fleet) {
	tb.get(t, "")
	for host, want := range map[string][]string{
		"old.example.net":    {"Expired", "with the next visitor", "18"},
		"login.example.com":  {"Backing off", "no certificate", "Another server answered", "Failed at challenge", "9th in a row", "in 49 min", "3,894"},
		"mail.example.org":   {"Failed", "The next one begins an attempt", "CAA records do not allow this CA"},
		"launch.example.org": {"Issuing", "In flight: challenge, 3 handshakes wait", "since 14:32:03"},
		"shop.example.com":   {"Valid", "Renewal failing", "A rate limit of the CA", "The valid certificate is served"},
		"api.example.com":    {"Valid", "Renewing: finalize"},
		"static.example.com": {"Valid", "as the CA suggests (ARI)", "reason"},
	} {
		text := eval[string](t, tb, fmt.Sprintf("document.querySelector('tbody[data-key^=%q]').innerText", host))
		for _, part := range want {
			if !strings.Contains(text, part) {
				t.Errorf("%s: the row does not say %q:\n%s", host, part, text)
			}
		}
	}
	if bar := eval[float64](t, tb, `document.querySelector("svg.bar .gone").getBoundingClientRect().width`); bar <= 0 {
		t.Error("the bar of a certificate's life has no width")
	}
}

func filters(t *testing.T, tb *tab, _ *fleet) {
	tb.get(t, "")
	tb.do(t, chromedp.SendKeys(chromedp.ID("q"), "EXAMPLE.org"))
	tb.click(t, "form button")
	if got, want := eval[string](t, tb, hostsShown),
		"mail.example.org launch.example.org blog.example.org"; got != want {
		t.Errorf("hosts that contain example.org: %s, want %s", got, want)
	}
	tb.click(t, `.states a[href*="state=valid"]`) // keeps the text
	if got, want := eval[string](t, tb, hostsShown), "blog.example.org"; got != want {
		t.Errorf("valid ones of these: %s, want %s", got, want)
	}
	if got := eval[string](t, tb, "document.getElementById('q').value"); got != "example.org" {
		t.Errorf("the field holds %q after that", got)
	}
}

func worksWithoutScript(t *testing.T, tb *tab, f *fleet) {
	f.grow(10_000)
	call(t, tb, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
	tb.get(t, "")
	if text := eval[string](t, tb, "document.getElementById('live').textContent"); text != "Reload" {
		t.Errorf("the page says %q, so its script ran", text)
	}
	tb.do(t, chromedp.SendKeys(chromedp.ID("q"), "customer-"))
	tb.click(t, "form button")
	tb.click(t, ".sorts a")
	tb.click(t, ".sorts a") // reverses the order
	tb.click(t, ".pager a[rel=next]")
	got := eval[string](t, tb, hostsShown)
	if first, _, _ := strings.Cut(got, " "); first != "customer-09699.example.net" {
		t.Errorf("page 2 from the end begins with %s", first)
	}
	if n := len(strings.Fields(got)); n != 300 {
		t.Errorf("the page has %d hosts", n)
	}
}

func showsOneHost(t *testing.T, tb *tab, _ *fleet) {
	tb.get(t, "")
	tb.click(t, `tbody[data-key^="login.example.com"] th.host a`)
	if got := eval[string](t, tb, hostsShown); got != "login.example.com" {
		t.Errorf("its page shows %s", got)
	}
	if n := eval[int](t, tb, "document.querySelectorAll('.events li').length"); n != 2 {
		t.Errorf("its page has %d events, want 2", n)
	}
	text := eval[string](t, tb, "document.querySelector('tr.details').innerText")
	if !strings.Contains(text, "2026-11-20 15:21:07") {
		t.Errorf("the details lack the exact time of the next attempt:\n%s", text)
	}
}

func refreshes(t *testing.T, tb *tab, f *fleet) {
	tb.get(t, "?q=example.org")
	tb.do(t, chromedp.Focus(chromedp.CSS(`tbody[data-key^="launch"] th.host a`)))
	eval[int](t, tb, `document.getElementById("q").value = "half typed"; window.mark = document.activeElement; scrollTo(0, 40); 0`)
	f.change(func(s *certmgr.Snapshot) {
		for i := range s.Hosts {
			if h := &s.Hosts[i]; h.Host == "launch.example.org" {
				h.State, h.Issuing = certmgr.StateValid, false
				h.NotBefore, h.NotAfter = fleetTime, fleetTime.Add(90*day)
			}
		}
	})
	tb.await(t, `document.querySelector('tbody[data-key^="launch"] .badge').textContent === "Valid"`)
	if !eval[bool](t, tb, `document.activeElement === window.mark && mark.textContent === "launch.example.org"`) {
		t.Error("the focus went elsewhere")
	}
	if y := eval[float64](t, tb, "scrollY"); y != 40 {
		t.Errorf("the page scrolled to %v", y)
	}
	if v := eval[string](t, tb, "document.getElementById('q').value"); v != "half typed" {
		t.Errorf("the field holds %q, not what was being typed", v)
	}
	if text := eval[string](t, tb, "document.getElementById('live').textContent"); text != "Refreshed every 5 s. Pause" {
		t.Errorf("the page says %q after a refresh", text)
	}
	if got, want := eval[string](t, tb, hostsShown),
		"mail.example.org blog.example.org launch.example.org"; got != want {
		t.Errorf("the filter was not kept: %s, want %s", got, want)
	}
}

// fakeTimers runs before the page's own script: timers run when fire is called.
const fakeTimers = `
const timers = new Map(); let last = 0;
window.setTimeout = (f, wait) => { timers.set(++last, f); return last; };
window.clearTimeout = (id) => timers.delete(id);
window.fire = () => { const all = [...timers.values()]; timers.clear(); for (const f of all) f(); return all.length; };
window.planned = () => timers.size;
let hidden = false;
Object.defineProperty(document, "hidden", { get: () => hidden });
window.hide = (v) => { hidden = v; document.dispatchEvent(new Event("visibilitychange")); };
`

func rests(t *testing.T, tb *tab, _ *fleet) {
	call(t, tb, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: fakeTimers})
	tb.get(t, "")
	if n := eval[int](t, tb, "planned()"); n != 1 {
		t.Fatalf("%d requests are planned at first, want 1", n)
	}
	if n := eval[int](t, tb, "hide(true); planned()"); n != 0 {
		t.Errorf("%d requests are planned while the page is hidden", n)
	}
	if n := eval[int](t, tb, "hide(false); planned()"); n != 1 {
		t.Errorf("%d requests are planned when the page is in view again, want 1", n)
	}
	if n := eval[int](t, tb, "document.querySelector('#live button').click(); planned()"); n != 0 {
		t.Errorf("%d requests are planned after Pause", n)
	}
	if n := eval[int](t, tb, "hide(true); hide(false); planned()"); n != 0 {
		t.Errorf("%d requests are planned when a paused page is in view again", n)
	}
	if n := eval[int](t, tb, "document.querySelector('#live button').click(); planned()"); n != 1 {
		t.Errorf("%d requests are planned after Resume, want 1", n)
	}
}

// unreliable answers with an error or not at all, as mode says.
type unreliable struct {
	next http.Handler
	mode atomic.Int32 // a status, or 1 for no answer, or 0
}

func (u *unreliable) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch mode := u.mode.Load(); mode {
	case 0:
		u.next.ServeHTTP(w, r)
	case 1:
		panic(http.ErrAbortHandler)
	default:
		w.WriteHeader(int(mode))
	}
}

func saysUnreachable(t *testing.T, browser context.Context) {
	u := &unreliable{next: status.Handler(newFleet())}
	site := httptest.NewServer(u)
	t.Cleanup(site.Close)
	tb := newTab(t, browser, site)
	call(t, tb, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: fakeTimers})
	tb.get(t, "")
	const alert = `document.getElementById("offline")`
	for mode, want := range map[int32]string{
		1:                              "it does not answer. This is how it was at 14:32:07 UTC",
		http.StatusServiceUnavailable:  "it answers 503",
		http.StatusUnauthorized:        "it answers 401",
		http.StatusInternalServerError: "it answers 500",
	} {
		u.mode.Store(mode)
		eval[int](t, tb, "fire()")
		tb.await(t, fmt.Sprintf("%s.checkVisibility() && %s.textContent.includes(%q)", alert, alert, want))
		if n := eval[int](t, tb, "document.querySelectorAll('tbody th.host').length"); n == 0 {
			t.Error("the hosts are gone from the page")
		}
		u.mode.Store(0)
		eval[int](t, tb, "fire()")
		tb.await(t, "!"+alert+".checkVisibility()")
	}
	tb.said() // Chromium reports each request that failed, and rightly so
}

func isLightAndDark(t *testing.T, tb *tab, _ *fleet) {
	tb.get(t, "")
	for scheme, want := range map[string]string{"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 27)"} {
		emulate(t, tb, scheme)
		if got := eval[string](t, tb, "getComputedStyle(document.body).backgroundColor"); got != want {
			t.Errorf("%s: the background is %s, want %s", scheme, got, want)
		}
		if low := eval[string](t, tb, lowContrast); low != "" {
			t.Errorf("%s: less contrast than 4.5 to 1 (WCAG 2.2, criterion 1.4.3): %s", scheme, low)
		}
	}
}

func emulate(t *testing.T, tb *tab, scheme string) {
	t.Helper()
	call(t, tb, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
}

// lowContrast is an expression for texts with too little contrast (WCAG 2.2,
// "contrast ratio" and "relative luminance").
const lowContrast = `(() => {
	const channels = (c) => c.match(/[\d.]+/g).map(Number);
	const light = (c) => channels(c).slice(0, 3).map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
		.reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
	const ground = (e) => { for (; e; e = e.parentElement) {
		const c = getComputedStyle(e).backgroundColor; if (channels(c)[3] !== 0) return c; } };
	const low = new Set();
	for (const e of document.querySelectorAll("#page *")) {
		if (![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())) continue;
		const [a, b] = [light(getComputedStyle(e).color), light(ground(e))].sort((a, b) => b - a);
		if ((a + 0.05) / (b + 0.05) < 4.5) low.add(e.className + " " + e.textContent.slice(0, 30));
	}
	return [...low].join("; ");
})()`

func fitsPhone(t *testing.T, tb *tab, _ *fleet) {
	tb.do(t, chromedp.EmulateViewport(360, 740, chromedp.EmulateMobile))
	tb.get(t, "")
	if wide := eval[int](t, tb, "document.documentElement.scrollWidth"); wide > 360 {
		t.Errorf("the page is %d wide on a screen of 360", wide)
	}
}

func fitsThreeScreens(t *testing.T, tb *tab, f *fleet) {
	f.grow(300)
	tb.do(t, chromedp.EmulateViewport(1400, 900))
	tb.get(t, "")
	if n := len(strings.Fields(eval[string](t, tb, hostsShown))); n != 300 {
		t.Errorf("%d hosts are shown, want 300", n)
	}
	if high := eval[int](t, tb, "document.documentElement.scrollHeight"); high > 3*900 {
		t.Errorf("the page is %d high, more than three screens of 900", high)
	}
	tb.do(t, chromedp.EmulateViewport(390, 844, chromedp.EmulateMobile))
	if wide := eval[int](t, tb, "document.documentElement.scrollWidth"); wide > 390 {
		t.Errorf("the page is %d wide on a screen of 390", wide)
	}
}

func keepsDisclosures(t *testing.T, tb *tab, f *fleet) {
	tb.get(t, "")
	const first = `document.querySelector(".group details")`
	eval[int](t, tb, first+".open = true; 0")
	f.change(func(s *certmgr.Snapshot) { s.Waiting = 77 })
	tb.await(t, `document.querySelector(".facts").textContent.includes("77")`)
	if !eval[bool](t, tb, first+".open && "+first+".textContent.includes('another name')") {
		t.Error("a refresh closed what the reader had opened")
	}
}

func runsNothing(t *testing.T, tb *tab, f *fleet) {
	const attack = `<img src=x onerror="document.title='owned';alert(1)"><script>document.title='owned';alert(2)</script>` +
		`"'><svg onload=alert(3)>{{alert(4)}}` + "\u202e\x00\x1b[2J</title></style></script>"
	f.change(func(s *certmgr.Snapshot) {
		s.CA, s.CAUnavailable, s.CAFailure = attack, fleetTime.Add(day), errors.New(attack)
		for i := range s.Hosts {
			h := &s.Hosts[i]
			h.Host += attack
			h.KeyType, h.RenewalCause, h.Stage = attack, certmgr.RenewalCause(attack), audit.Stage(attack)
			if h.Host != "static.example.com"+attack {
				h.ExplanationURL = "javascript:alert(5)//" + attack
			}
			if h.Failure != nil {
				e := *h.Failure
				e.Err, e.Stage = errors.New(attack), audit.Stage(attack)
				h.Failure = &e
			}
		}
		for i := range s.RecentEvents {
			e := &s.RecentEvents[i]
			e.Host, e.SNI, e.Reason, e.RemoteAddr, e.Err = attack, attack, attack, attack, errors.New(attack)
			e.Kind = audit.Kind(attack)
		}
	})
	for _, query := range []string{"", "?q=%3Cscript%3Ealert(6)%3C/script%3E", "?host=%22%3E%3Cscript%3Ealert(7)%3C/script%3E"} {
		tb.get(t, query)
		if n := eval[int](t, tb, "document.scripts.length"); n != 1 {
			t.Errorf("%q: the page has %d scripts, want its own", query, n)
		}
		if n := eval[int](t, tb, "document.querySelectorAll('img, [onerror], [onload], a[href^=\"javascript:\" i]').length"); n != 0 {
			t.Errorf("%q: the page has %d elements that somebody else made", query, n)
		}
		if title := eval[string](t, tb, "document.title"); title == "owned" {
			t.Errorf("%q: a script of somebody else ran", query)
		}
	}
}

// takeScreenshots makes the pictures of the README.
func takeScreenshots(t *testing.T, tb *tab) {
	tb.do(t, chromedp.EmulateViewport(1200, 800))
	for _, scheme := range []string{"light", "dark"} {
		tb.get(t, "")
		emulate(t, tb, scheme)
		picture(t, tb, scheme)
	}
}

// picture saves what the tab shows.
func picture(t *testing.T, tb *tab, name string) {
	t.Helper()
	data, err := chromedp.Run(tb.ctx, chromedp.FullScreenshot(100))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := png.DecodeConfig(bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(*screenshots, "status-"+name+".png"), data, 0o644); err != nil {
		t.Fatal(err)
	}
}
