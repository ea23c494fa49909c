package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/audits"
	"github.com/chromedp/cdproto/cdp"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// startBrowser starts a headless Chromium with its own profile, which ends with
// the test. Without Chromium the test is skipped, or fails where
// NOSTALL_REQUIRE_SERVICES is 1.
func startBrowser(t *testing.T) context.Context {
	t.Helper()
	program, err := exec.LookPath("chromium")
	if err != nil {
		const hint = "Chromium is missing. On Debian: apt-get install -y chromium\n"
		if os.Getenv("NOSTALL_REQUIRE_SERVICES") == "1" {
			t.Fatal(hint, err)
		}
		t.Skip(hint, err)
	}
	options := append([]chromedp.ExecAllocatorOption{chromedp.ExecPath(program)}, chromedp.DefaultExecAllocatorOptions[:]...)
	for _, flag := range []string{"no-sandbox", "disable-gpu", "disable-quic", "disable-component-update", "hide-scrollbars"} {
		options = append(options, chromedp.Flag(flag, true))
	}
	// The context of the test ends before its cleanups, which close the
	// browser.
	ctx, cancel := chromedp.NewExecAllocator(context.WithoutCancel(t.Context()), options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatal("Chromium does not start: ", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(ctx, readyTimeout)
		defer cancel()
		if err := chromedp.Cancel(ctx); err != nil {
			t.Log("Chromium does not end: ", err)
		}
	})
	return ctx
}

// tab is a browser tab that shows one site.
type tab struct {
	ctx context.Context
	url string

	mu       sync.Mutex
	troubles []string // what the browser reported
}

// newTab opens a tab for a site. The test fails if the browser reported
// anything by the end of the test.
func newTab(t *testing.T, browser context.Context, site *httptest.Server) *tab {
	t.Helper()
	tb := &tab{url: site.URL + "/debug/certs/"}
	var cancel context.CancelFunc
	tb.ctx, cancel = chromedp.NewContext(browser)
	t.Cleanup(cancel)
	if err := chromedp.Listen(tb.ctx, tb.note); err != nil {
		t.Fatal(err)
	}
	call(t, tb, cdplog.Enable, cdp.Empty{})
	call(t, tb, audits.Enable, cdp.Empty{})
	t.Cleanup(func() {
		for _, trouble := range tb.said() {
			t.Error("the browser says: ", trouble)
		}
	})
	return tb
}

// note records what must not happen: errors, warnings, violations of the
// policy, dialogs.
func (tb *tab) note(ev any) {
	var trouble string
	switch ev := ev.(type) {
	case *cdplog.EventEntryAdded:
		if ev.Entry.Level == cdplog.EntryLevelError || ev.Entry.Level == cdplog.EntryLevelWarning {
			trouble = fmt.Sprintf("%s: %s %s", ev.Entry.Source, ev.Entry.Text, ev.Entry.URL)
		}
	case *runtime.EventConsoleAPICalled:
		trouble = fmt.Sprintf("console.%s", ev.Type)
	case *runtime.EventExceptionThrown:
		trouble = "exception: " + ev.ExceptionDetails.Text
	case *page.EventJavascriptDialogOpening:
		trouble = "dialog: " + ev.Message
	case *audits.EventIssueAdded:
		text, _ := json.Marshal(ev.Issue)
		trouble = "issue: " + string(text)
	}
	if trouble != "" {
		tb.mu.Lock()
		defer tb.mu.Unlock()
		tb.troubles = append(tb.troubles, trouble)
	}
}

// said returns what the browser reported since the last call.
func (tb *tab) said() []string {
	tb.mu.Lock()
	defer tb.mu.Unlock()
	said := tb.troubles
	tb.troubles = nil
	return said
}

// do runs actions in the tab, within a time limit.
func (tb *tab) do(t *testing.T, steps ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	ctx, cancel := context.WithTimeout(tb.ctx, timeout)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		t.Fatal(err)
	}
}

// get goes to an address relative to the page's.
func (tb *tab) get(t *testing.T, query string) {
	t.Helper()
	tb.do(t, chromedp.Navigate(tb.url+query))
}

// click follows a link or presses a button and waits for the next page.
func (tb *tab) click(t *testing.T, selector string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(tb.ctx, timeout)
	defer cancel()
	if _, err := chromedp.RunResponse(ctx, chromedp.Click(chromedp.CSS(selector))); err != nil {
		t.Fatalf("%s: %v", selector, err)
	}
}

// call sends a command to the tab.
func call[P, R any](t *testing.T, tb *tab, command cdp.Command[P, R], params P) {
	t.Helper()
	ctx, cancel := context.WithTimeout(tb.ctx, timeout)
	defer cancel()
	if _, err := chromedp.Call(ctx, command, params); err != nil {
		t.Fatalf("%s: %v", command.Method, err)
	}
}

// eval returns the value of an expression in the tab.
func eval[T any](t *testing.T, tb *tab, expression string) T {
	t.Helper()
	ctx, cancel := context.WithTimeout(tb.ctx, timeout)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		t.Fatalf("%s: %v", expression, err)
	}
	return v
}

// await waits until an expression is true in the tab. chromedp.Poll would make
// a function from a string there, which the page's policy forbids.
func (tb *tab) await(t *testing.T, expression string) {
	t.Helper()
	poll := time.NewTicker(50 * time.Millisecond)
	defer poll.Stop()
	limit := time.NewTimer(timeout)
	defer limit.Stop()
	for !eval[bool](t, tb, "!!("+expression+")") {
		select {
		case <-poll.C:
		case <-limit.C:
			t.Fatalf("%s is still not so; the page is\n%s", expression, eval[string](t, tb, "document.body.innerText"))
		}
	}
}
