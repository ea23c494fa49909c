package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"
)

// serve keeps everything running for inspection.
func (r *report) serve(ctx context.Context) {
	heading("Running until interrupted (Ctrl-C)")
	fmt.Printf("The status page: %s/certs/\nThe metrics:     %s/metrics\n", r.site.url, r.site.url)
	var wg sync.WaitGroup
	for host, every := range map[string]time.Duration{movedHost: oldEvery, goodHost: visitEvery} {
		wg.Go(func() { each(ctx, every, func() { r.site.visit(ctx, host) }) })
	}
	wg.Wait()
}

// operate does what the line in the log advises, and shows the result.
func (r *report) operate(ctx context.Context) error {
	const reason = "moved to hosting in June"
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	seen, _ := r.site.text.all()
	r.site.manager.Hosts.Because(reason).Remove(movedHost)
	if _, err := r.site.text.wait(ctx, `msg="certmgr: host unlisted"`, "host="+movedHost, reason); err != nil {
		return err
	}
	err := errors.Join(
		check("the next old client", []answer{r.site.visit(ctx, movedHost)}, true),
		check("the next visitor", []answer{r.site.visit(ctx, goodHost)}, false),
		r.gone(ctx), r.site.close())
	if err != nil {
		return err
	}
	heading("What to do: hosts.Because(%q).Remove(%q)", reason, movedHost)
	lines, _ := r.site.text.all()
	for _, line := range lines[len(seen):] {
		explain(line.text)
	}
	return r.judge(lines[len(seen):])
}

// gone returns an error if the status page still has a row for the removed
// host.
func (r *report) gone(ctx context.Context) error {
	_, raw, err := r.site.hostOnPage(ctx, movedHost)
	if err == nil && raw != nil {
		err = fmt.Errorf("the status page still has %s", raw)
	}
	return err
}

// judge checks the log lines that follow.
func (r *report) judge(lines []logLine) error {
	for _, line := range lines {
		if strings.Contains(line.text, "issuance started") {
			return fmt.Errorf("there is another issuance: %s", line.text)
		}
	}
	// Close has reported the counts so far: the scanners, and one old client
	// since the removal.
	told := 0
	all, _ := r.site.text.all("result=host_not_allowed")
	for _, line := range all {
		_, count, _ := strings.Cut(line.text, " count=")
		count, _, _ = strings.Cut(count, " ")
		n, err := strconv.Atoi(count)
		if err != nil {
			return fmt.Errorf("%w: %s", err, line.text)
		}
		told += n
	}
	if want := scannerNames + 1; told != want {
		return fmt.Errorf("%d handshakes for hosts that are not allowed are in the log, want %d", told, want)
	}
	return nil
}
