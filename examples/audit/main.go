// Audit replays the incident that this module was written for, and shows what
// operators see of it within a second: one line in the log, one row on the
// status page, and the metrics.
//
//	go run ./examples/audit         # ends after some seconds
//	go run ./examples/audit -serve  # keeps everything running until interrupted
//
// A server's allowlist has www.example.com and login.example.com, which moved
// to another machine long ago. Old clients have the server's address built in
// and still connect here for it. A deployment has cleared the cache, so there
// is no certificate, and the CA can issue none for login.example.com: its
// validation reaches the other machine. Meanwhile www.example.com has clients,
// and scanners try other names.
//
// Everything is on loopback: a fake CA (certmgr/acmetest) that really
// validates, both machines, and all clients. DNS is a table, and so are the
// routes to its addresses. The program exits with status 1 if anything is not
// as described.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"time"
)

const (
	goodHost  = "www.example.com"
	movedHost = "login.example.com" // on the allowlist, but its name leads to another machine
)

// patience is the time-out for everything that usually happens within a second.
const patience = 20 * time.Second

func main() {
	serve := flag.Bool("serve", false, "keep the server and its status page running until interrupted")
	flag.Parse()
	if err := run(*serve); err != nil {
		fmt.Fprintln(os.Stderr, "audit:", err)
		os.Exit(1)
	}
}

func run(serve bool) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	w, err := newWorld()
	if err != nil {
		return err
	}
	defer w.close()
	s, err := w.startSite()
	if err != nil {
		return err
	}
	defer func() { _ = s.close() }()

	r := &report{world: w, site: s}
	if err := r.replay(ctx); err != nil {
		return err
	}
	for _, part := range []func(context.Context) error{r.visitors, r.log, r.page, r.metrics} {
		if err := part(ctx); err != nil {
			return fmt.Errorf("%w\n\nThe log:\n%s", err, s.text)
		}
	}
	if serve {
		r.serve(ctx)
	}
	stop()
	if err := r.operate(context.WithoutCancel(ctx)); err != nil {
		return fmt.Errorf("%w\n\nThe log:\n%s", err, s.text)
	}
	fmt.Println("\nEverything was as it should be.")
	return nil
}

// replay runs a second of the incident.
func (r *report) replay(ctx context.Context) error {
	before, err := r.site.scrape(ctx)
	if err != nil {
		return err
	}
	r.before, r.began = before, time.Now()
	r.crowd = r.site.traffic(ctx, time.Second)
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if r.line, err = r.site.text.wait(ctx, `msg="certmgr: issuance failed"`, "host="+movedHost); err != nil {
		return err
	}
	if r.json, err = r.site.json.wait(ctx, `"kind":"issuance_failed"`, `"host":"`+movedHost+`"`); err != nil {
		return err
	}
	r.after, err = r.site.scrape(ctx)
	return errors.Join(err, ctx.Err())
}
