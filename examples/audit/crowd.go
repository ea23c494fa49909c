package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

const (
	oldEvery     = 50 * time.Millisecond  // between old clients
	visitEvery   = 100 * time.Millisecond // between clients of www.example.com, which come one after the other
	scannerNames = 300
	scannerPeers = 4 // concurrent scanners
	sampleEvery  = 5 * time.Millisecond
)

// answer is the result of one client.
type answer struct {
	took time.Duration
	err  error // an alert, which has no reason
}

// crowd holds the results of all clients, in order of arrival.
type crowd struct {
	old, good, scanners []answer
	waiting             int // peak number of the old clients' handshakes that wait
}

// traffic runs all clients for a while, and returns when all have their answer.
func (s *site) traffic(ctx context.Context, d time.Duration) *crowd {
	end, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	answered, done := context.WithCancel(ctx) // ends when every old client has its answer
	c := new(crowd)
	var wg sync.WaitGroup
	wg.Go(func() {
		defer done()
		c.old = stream(end, oldEvery, func() answer { return s.visit(ctx, movedHost) })
	})
	wg.Go(func() { each(end, visitEvery, func() { c.good = append(c.good, s.visit(ctx, goodHost)) }) })
	wg.Go(func() { c.scanners = s.scan(ctx) })
	wg.Go(func() { each(answered, sampleEvery, func() { c.waiting = max(c.waiting, s.waiting(movedHost)) }) })
	wg.Wait()
	return c
}

// stream begins a visit after each interval until ctx ends, whether or not the
// last one has its answer.
func stream(ctx context.Context, every time.Duration, visit func() answer) []answer {
	var pending []chan answer
	each(ctx, every, func() {
		done := make(chan answer, 1)
		pending = append(pending, done)
		go func() { done <- visit() }()
	})
	var answers []answer
	for _, done := range pending {
		answers = append(answers, <-done)
	}
	return answers
}

// each calls f at once and then, if it has returned, after each interval until
// ctx ends.
func each(ctx context.Context, every time.Duration, f func()) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for ctx.Err() == nil {
		f()
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// scan asks for one unknown name after the other.
func (s *site) scan(ctx context.Context) []answer {
	answers := make([]answer, scannerNames)
	var wg sync.WaitGroup
	for peer := range scannerPeers {
		wg.Go(func() {
			for i := peer; i < len(answers); i += scannerPeers {
				answers[i] = s.visit(ctx, fmt.Sprintf("scan-%03d.example.net", i))
			}
		})
	}
	wg.Wait()
	return answers
}

// visit is a client that requests https://host/ over a new connection.
func (s *site) visit(ctx context.Context, host string) answer {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{RootCAs: s.world.ca.Roots()},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, s.addr) // built in, whatever DNS says
		},
	}}
	begin := time.Now()
	err := greet(ctx, client, host)
	return answer{time.Since(begin), err}
}

func greet(ctx context.Context, client *http.Client, host string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+host+"/", nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	body, err := io.ReadAll(resp.Body)
	if want := "hello from " + host; string(body) != want {
		err = errors.Join(err, fmt.Errorf("got %q instead of %q", body, want))
	}
	return errors.Join(err, resp.Body.Close())
}

// waiting returns how many handshakes wait for a host's certificate.
func (s *site) waiting(host string) int {
	n := 0
	for _, h := range s.manager.Snapshot().Hosts {
		if h.Host == host {
			n += h.Waiting
		}
	}
	return n
}

// check returns an error unless all answers are refusals by the server, or none
// is.
func check(who string, answers []answer, refused bool) error {
	if len(answers) == 0 {
		return errors.New(who + ": nobody came")
	}
	for i, a := range answers {
		switch {
		case !refused && a.err != nil:
			return fmt.Errorf("%s: number %d was not served: %w", who, i+1, a.err)
		case refused && a.err == nil:
			return fmt.Errorf("%s: number %d was served", who, i+1)
		case refused && !isAlert(a.err):
			return fmt.Errorf("%s: number %d was not refused by an alert: %w", who, i+1, a.err)
		}
	}
	return nil
}

// isAlert reports whether an error is an alert from the server, as crypto/tls
// returns it.
func isAlert(err error) bool {
	e, ok := errors.AsType[*net.OpError](err)
	return ok && e.Op == "remote error"
}

// typical returns the median and the longest time to an answer.
func typical(answers []answer) (median, longest time.Duration) {
	times := make([]time.Duration, 0, len(answers))
	for _, a := range answers {
		times = append(times, a.took)
	}
	if len(times) == 0 {
		return 0, 0
	}
	slices.Sort(times)
	return times[len(times)/2], times[len(times)-1]
}
