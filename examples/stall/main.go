// Stall shows side by side the incident that this module was written for:
// autocert and certmgr each serve one host whose certificate can never be
// issued, because its name leads to another machine. Old clients still come,
// one connection every 100 ms, and leave after 3 s without an answer.
//
//	go run ./examples/stall                       # 20 s
//	go run ./examples/stall -o stall.svg -for 12m # draws two of autocert's teeth: each takes 5 minutes
//	go run ./examples/stall -fault stall -for 40s # a CA that does not answer at all
//
// Each side is a separate process (this program, started again) with a net/http
// server on a loopback port, so that it counts only its own goroutines and open
// descriptors. The CAs, one for each side and equally broken, and the clients
// are in the parent. It prints the peaks, what each side wrote to its log, and
// how long that took.
//
// With -fault=mix, the default, the first validation reaches the other machine
// and fails. Then the CA's limit for failed validations is used up: newOrder is
// answered with 429.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"time"
)

// host is on the allowlist of both sides, but its name leads elsewhere.
const host = "login.example.com"

// options are the flags.
type options struct {
	fault  string
	length time.Duration
	every  time.Duration
	leave  time.Duration
	sample time.Duration
	out    string
}

func main() {
	if len(os.Args) == 3 && os.Args[1] == "-side" { // internal: starts a side's process
		exit(runChild(os.Args[2]))
	}
	var o options
	flag.StringVar(&o.fault, "fault", "mix", "what goes wrong: "+strings.Join(faultNames(), ", "))
	flag.DurationVar(&o.length, "for", 20*time.Second, "how long to run; autocert's first tooth ends after 5m")
	flag.DurationVar(&o.every, "every", 100*time.Millisecond, "time between two new connections to a side")
	flag.DurationVar(&o.leave, "leave", 3*time.Second, "how long a client waits before it leaves")
	flag.DurationVar(&o.sample, "sample", 200*time.Millisecond, "time between two samples")
	flag.StringVar(&o.out, "o", "", "write the picture to this file, in SVG; nothing is written without it")
	flag.Parse()
	exit(o.run())
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "stall:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func (o options) check() error {
	switch {
	case faults[o.fault] == nil:
		return fmt.Errorf("-fault %q: want one of %s", o.fault, strings.Join(faultNames(), ", "))
	case o.length <= 0 || o.leave <= 0:
		return errors.New("-for and -leave must be positive")
	case o.every < time.Millisecond || o.sample < 10*time.Millisecond:
		return errors.New("-every is 1ms and -sample 10ms at least")
	}
	return nil
}

// run runs both sides, prints the results and draws them.
func (o options) run() error {
	if err := o.check(); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	var sides []*side
	for _, name := range []string{"autocert", "certmgr"} {
		s, err := startSide(ctx, name, o)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		defer s.close()
		sides = append(sides, s)
	}
	fmt.Printf("%s, fault %q, for %v:\na new connection every %v, clients leave after %v\n",
		host, o.fault, o.length, o.every, o.leave)

	o.traffic(ctx, sides)
	for _, s := range sides {
		if err := s.stop(); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	summary(os.Stdout, o, sides)
	if o.out == "" {
		return nil
	}
	if err := drawSVG(o.out, o, sides); err != nil {
		return err
	}
	fmt.Printf("\nThe curves are in %s\n", o.out)
	return nil
}

// traffic starts a client for each side every o.every until the time is up, and
// waits for the last one to leave.
func (o options) traffic(ctx context.Context, sides []*side) {
	ctx, cancel := context.WithTimeout(ctx, o.length)
	defer cancel()
	tick := time.NewTicker(o.every)
	defer tick.Stop()
	for {
		for _, s := range sides {
			s.visitors.Go(func() { s.visit(ctx, o.leave) })
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			for _, s := range sides {
				s.visitors.Wait()
			}
			return
		}
	}
}
