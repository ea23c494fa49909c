package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/examples/internal/columns"
)

// diary prints a timeline. Repeated entries in a chapter are printed a few
// times and then counted.
type diary struct {
	out io.Writer

	mu    sync.Mutex
	seen  map[entry]int
	order []entry // the lines, in order of first appearance
}

// entry is an event of a name, without the details that vary.
type entry struct{ name, text string }

// often is how many times the same entry is printed.
const often = 3

func stamp(t time.Time) string { return t.UTC().Format("_2 Jan 15:04") }

// chapter begins a chapter with what happens to the site, after printing all
// earlier events.
func (d *diary) chapter(text string) {
	synctest.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, e := range d.order {
		if more := d.seen[e] - often; more > 0 {
			d.print(fmt.Sprintf("%12s  %-5s  ", "", e.name), fmt.Sprintf("and %d more: %s", more, e.text))
		}
	}
	d.seen, d.order = make(map[entry]int), nil
	fmt.Fprintln(d.out)
	d.print(stamp(time.Now())+"  ", text)
}

// event is the Manager's audit hook.
func (d *diary) event(_ context.Context, e audit.Event) {
	text, details, why := describe(e)
	if text == "" {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	name, _, _ := strings.Cut(e.Host, ".")
	line := entry{name, text}
	if d.seen[line]++; d.seen[line] > often {
		return
	}
	if d.seen[line] == 1 {
		d.order = append(d.order, line)
	}
	d.print(fmt.Sprintf("%s  %-5s  ", stamp(e.Time), name), text+details)
	kind := entry{name, string(e.Kind)}
	if d.seen[kind]++; d.seen[kind] == 1 {
		d.wrap(why)
	}
}

// describe puts an event into words: text is the same for similar events,
// details vary, and why is printed once in a chapter. Events without a text are
// covered by others.
func describe(e audit.Event) (text, details, why string) {
	if e.Err != nil {
		why = e.Err.Error()
	}
	switch e.Kind {
	case audit.StartProgress:
		return "start", fmt.Sprintf(": %d of %d names have a certificate", e.Count, e.Total), ""
	case audit.AccountReady:
		return "the account at the CA is ready", "", ""
	case audit.CertificateLoaded:
		return "found in the cache", ", valid until " + stamp(e.NotAfter), ""
	case audit.CertificateIssued:
		return "issued (" + e.Reason + ")", ", valid until " + stamp(e.NotAfter), ""
	case audit.RenewalWindowMoved:
		return "the CA changes its mind", "", e.Reason + "; see " + e.ExplanationURL
	case audit.IssuanceFailed:
		if e.Count == 0 {
			break // not the host's fault, see audit.CAUnavailable
		}
		return "the attempt failed, the next one is due in " + about(e.RetryAt.Sub(e.Time)), "", why
	case audit.CAUnavailable:
		return "the CA is down, and left alone for " + about(e.RetryAt.Sub(e.Time)), "", why
	case audit.CAAvailable:
		return "the CA works again", "", ""
	case audit.RenewalLate:
		return "THE RENEWAL IS LATE", ": " + e.Reason, ""
	case audit.CertificateExpired:
		return "THE CERTIFICATE HAS EXPIRED", "", ""
	case audit.HandshakesRefused:
		return "a visitor is refused", "", why
	case audit.ManagerClosed:
		return "the process ends", "", ""
	}
	return "", "", ""
}

// about rounds a wait, which has some percent of jitter.
func about(d time.Duration) string {
	round := func(unit time.Duration, name string) string {
		n := int(d.Round(unit) / unit)
		if n == 1 {
			return "1 " + name
		}
		return fmt.Sprintf("%d %ss", n, name)
	}
	switch {
	case d > 20*time.Hour:
		return round(day, "day")
	case d > 40*time.Minute:
		return round(time.Hour, "hour")
	case d > 3*time.Minute:
		d = d.Round(5 * time.Minute)
	case d < 50*time.Second:
		return "some seconds"
	}
	return round(time.Minute, "minute")
}

// wrap prints a text of any length below a line, wrapped.
func (d *diary) wrap(text string) {
	if text != "" {
		d.print(strings.Repeat(" ", 24), text)
	}
}

// print prints a text after the beginning of a line, wrapped.
func (d *diary) print(head, text string) {
	indent := len(head)
	fmt.Fprintf(d.out, "%s%s\n", head, columns.Wrap(text, strings.Repeat(" ", indent), indent))
}
