package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nostall/nostall/examples/internal/columns"
)

// report prints the results of the incident, part by part. Each part checks
// what it prints.
type report struct {
	world *world
	site  *site

	began         time.Time
	crowd         *crowd
	line, json    logLine // the failure, in the log and in the audit trail
	before, after []sample
}

// visitors prints what the clients saw.
func (r *report) visitors(context.Context) error {
	c := r.crowd
	err := errors.Join(
		check("old clients", c.old, true), check("visitors", c.good, false), check("scanners", c.scanners, true))
	if err == nil && c.waiting != 1 {
		err = fmt.Errorf("%d handshakes of old clients waited at the same time, want 1", c.waiting)
	}
	if err != nil {
		return err
	}
	heading("What visitors saw in the first second")
	row := func(who string, answers []answer, what string) {
		median, longest := typical(answers)
		fmt.Printf("%4d %-34s %s\n%39s median %s, longest %s\n", len(answers), who, what, "", round(median), round(longest))
	}
	row("old client for "+movedHost, c.old[:1], "refused, and told why")
	row("old clients after it", c.old[1:], "refused at once")
	row("visitors of "+goodHost, c.good, "served")
	row("names that scanners made up", c.scanners, "refused at once")
	fmt.Printf("Peak number of handshakes for %s that waited: %d.\n", movedHost, c.waiting)
	return nil
}

// advice is the advice in the log line.
const advice = "point the name here, or take it off the list"

// log prints the log line that explains everything.
func (r *report) log(context.Context) error {
	says := []string{"level=ERROR", "host=" + movedHost, "stage=challenge", "retry_at=", "problem=", movedAddr.String(), otherName, advice}
	for _, part := range says {
		if !strings.Contains(r.line.text, part) {
			return fmt.Errorf("the line in the log does not say %q: %s", part, r.line.text)
		}
	}
	if n := r.site.text.count(`msg="certmgr: issuance failed"`); n != 1 {
		return fmt.Errorf("%d issuances failed, want 1", n)
	}
	scans := r.site.text.count("result=host_not_allowed") // at most one a minute
	if scans != 1 {
		return fmt.Errorf("the scanners made %d lines, want 1", scans)
	}
	var trail struct{ Host, Stage, Error string }
	if err := json.Unmarshal([]byte(r.json.text), &trail); err != nil || trail.Host != movedHost || trail.Stage != "challenge" {
		return fmt.Errorf("the audit trail has %s (%v)", r.json.text, err)
	}
	heading("The line in the log, %v after the first old client came", r.line.at.Sub(r.began).Round(time.Millisecond))
	explain(r.line.text)
	lines, _ := r.site.text.all()
	fmt.Printf("The log, which net/http writes to as well, has %d lines. The %d names of\nscanners made %d of them.\n", len(lines), scannerNames, scans)
	fmt.Printf("Left out by Manager.ErrorLog: net/http's lines for %d refused handshakes.\n", len(r.crowd.old)+len(r.crowd.scanners))
	heading("The same in the audit trail, as JSON")
	explain(shorten(r.json.text, trail.Error))
	return nil
}

// pageHost is the part of the status page's JSON used here.
type pageHost struct {
	Host    string    `json:"host"`
	State   string    `json:"state"`
	Refused int       `json:"refused"`
	RetryAt time.Time `json:"retry_at"`
	Failure struct {
		Error string `json:"error"`
	} `json:"failure"`
}

// hostOnPage returns the row of a host on the status page, and its JSON.
func (s *site) hostOnPage(ctx context.Context, host string) (h pageHost, raw json.RawMessage, err error) {
	body, err := s.get(ctx, "/certs/?format=json&host="+host)
	if err != nil {
		return h, nil, err
	}
	var page struct{ Hosts []json.RawMessage }
	if err := json.Unmarshal([]byte(body), &page); err != nil || len(page.Hosts) == 0 {
		return h, nil, err
	}
	return h, page.Hosts[0], json.Unmarshal(page.Hosts[0], &h)
}

// page prints the row of the status page.
func (r *report) page(ctx context.Context) error {
	host, raw, err := r.site.hostOnPage(ctx, movedHost)
	if err != nil {
		return err
	}
	if host.State != "backing off" || host.Refused != len(r.crowd.old) || !time.Now().Before(host.RetryAt) ||
		!strings.Contains(host.Failure.Error, movedAddr.String()) {
		return fmt.Errorf("the status page has %s", raw)
	}
	html, err := r.site.get(ctx, "/certs/")
	if err == nil && (!strings.Contains(html, movedHost) || !strings.Contains(html, movedAddr.String())) {
		err = errors.New("the page does not show what the JSON does")
	}
	if err != nil {
		return err
	}
	heading("The row of the status page: %s/certs/?host=%s", r.site.url, movedHost)
	var text bytes.Buffer
	text.WriteString("  ")
	if err := json.Indent(&text, raw, "  ", "  "); err != nil {
		return err
	}
	for line := range strings.SplitSeq(shorten(text.String(), host.Failure.Error), "\n") {
		own := line[:len(line)-len(strings.TrimLeft(line, " "))]
		fmt.Println(own + columns.Wrap(strings.TrimLeft(line, " "), own+"  ", len(own)))
	}
	return nil
}

// metrics prints the metrics that show it.
func (r *report) metrics(context.Context) error {
	interesting := []string{"certmgr_handshakes_total", "certmgr_issuance_failures_total", "certmgr_certificates_issued_total",
		"certmgr_hosts"}
	var changed []sample
	for _, s := range r.after {
		relevant := slices.ContainsFunc(interesting, func(name string) bool { return strings.HasPrefix(s.series, name) })
		if relevant && !slices.Contains(r.before, s) {
			changed = append(changed, s)
		}
	}
	for _, want := range []sample{
		{`certmgr_handshakes_total{result="issuance_failed"}`, "1"},
		{`certmgr_handshakes_total{result="host_not_allowed"}`, fmt.Sprint(scannerNames)},
		{`certmgr_handshakes_total{result="served"}`, fmt.Sprint(len(r.crowd.good))},
		{`certmgr_issuance_failures_total{stage="challenge"}`, "1"},
		{`certmgr_hosts{state="backing_off"}`, "1"},
	} {
		if !slices.Contains(changed, want) {
			return fmt.Errorf("the metrics lack %s %s; have %v", want.series, want.value, changed)
		}
	}
	heading("The metrics that changed: %s/metrics", r.site.url)
	for _, s := range changed {
		explain(s.series + " " + s.value)
	}
	return nil
}
