package certmgr_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/audit"
)

var errNotACustomer = errors.New("not a customer")

// agedPolicy is a HostPolicy whose answer can be changed.
type agedPolicy struct {
	calls  atomic.Int32
	answer atomic.Pointer[func(context.Context) error] // nil means yes
}

func (p *agedPolicy) ask(ctx context.Context, _ string) error {
	p.calls.Add(1)
	if f := p.answer.Load(); f != nil {
		return (*f)(ctx)
	}
	return nil
}

func (p *agedPolicy) says(f func(context.Context) error) { p.answer.Store(&f) }

func saysNo(context.Context) error { return errNotACustomer }

func hangs(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }

// Without MaxPolicyAge an approval of any age serves the first handshake, and the
// policy's answer affects those after it. With it the policy is asked first.
func TestMaxPolicyAgeAsksFirst(t *testing.T) {
	tests := []struct {
		name     string
		ttl, max time.Duration
		unseen   time.Duration
		clock    time.Duration // by which it is set then
		asked    bool
	}{
		{name: "off", unseen: day},
		{name: "negative", max: -1, unseen: day},
		{name: "younger", max: time.Hour, unseen: time.Hour - time.Second},
		{name: "older", max: time.Hour, unseen: time.Hour, asked: true},
		{name: "below PolicyTTL", ttl: 2 * time.Hour, max: time.Hour, unseen: time.Hour, asked: true},
		{name: "fresh", ttl: 2 * time.Hour, max: time.Hour, unseen: time.Minute},
		{name: "clock set forward", max: time.Hour, unseen: time.Minute, clock: 2 * time.Hour, asked: true},
		{name: "clock set back", max: time.Hour, unseen: time.Minute, clock: -2 * time.Hour, asked: true},
		{name: "clock set back, off", unseen: time.Minute, clock: -2 * time.Hour},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var p agedPolicy
			policyWorld(t, p.ask, func(t *testing.T, w *world) {
				var set atomic.Int64
				certmgr.SetClock(w.m, func() time.Time { return time.Now().Add(time.Duration(set.Load())) })
				w.m.PolicyTTL, w.m.MaxPolicyAge = tt.ttl, tt.max
				w.mustGet("a.example.com")
				time.Sleep(tt.unseen)
				set.Store(int64(tt.clock))
				p.says(saysNo)
				if _, err := w.get("a.example.com"); (err == errNotACustomer) != tt.asked || err != nil && !tt.asked {
					t.Errorf("the handshake got %v; asked first must be %v", err, tt.asked)
				}
				synctest.Wait()
				if _, err := w.get("a.example.com"); err != errNotACustomer && tt.name != "fresh" {
					t.Errorf("the next handshake got %v", err)
				}
			})
		})
	}
}

// A client that leaves before the policy has answered makes no approval last longer.
func TestMaxPolicyAgeIgnoresClientsThatLeave(t *testing.T) {
	var p agedPolicy
	policyWorld(t, p.ask, func(t *testing.T, w *world) {
		w.m.MaxPolicyAge = time.Hour
		w.mustGet("a.example.com")
		time.Sleep(2 * time.Hour)
		p.says(func(ctx context.Context) error {
			time.Sleep(time.Second)
			return errNotACustomer
		})
		ctx, leave := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer leave()
		w.handshake(ctx, "a.example.com")
		if _, err := w.get("a.example.com"); err != errNotACustomer {
			t.Errorf("got %v after a client that left", err)
		}
	})
}

// A policy that cannot decide takes no valid certificate out of service, whatever the
// age of its approval, and holds up one handshake in 10 seconds.
func TestMaxPolicyAgeKeepsTheServiceWhileThePolicyFails(t *testing.T) {
	for name, fails := range map[string]func(context.Context) error{
		"hangs":  hangs,
		"panics": func(context.Context) error { panic("boom") },
		"error":  func(context.Context) error { return fmt.Errorf("%w: database", certmgr.ErrPolicy) },
	} {
		t.Run(name, func(t *testing.T) {
			var p agedPolicy
			policyWorld(t, p.ask, func(t *testing.T, w *world) {
				w.m.MaxPolicyAge = time.Hour
				w.mustGet("a.example.com")
				time.Sleep(2 * time.Hour)
				p.says(fails)
				for range 3 {
					before := p.calls.Load()
					w.mustGet("a.example.com")
					if n := p.calls.Load() - before; n != 1 {
						t.Errorf("the policy was asked %d times, want once", n)
					}
					start := time.Now()
					for range 100 {
						w.mustGet("a.example.com")
					}
					if n, d := p.calls.Load()-before, time.Since(start); n != 1 || d != 0 {
						t.Errorf("the policy was asked %d times within 10 s, and handshakes waited %v", n, d)
					}
					time.Sleep(11 * time.Second)
				}
				if n := len(w.events.of(audit.HostDropped)); n != 0 {
					t.Errorf("%d hosts were dropped", n)
				}
				p.says(saysNo)
				if _, err := w.get("a.example.com"); err != errNotACustomer {
					t.Errorf("got %v of a policy that works again", err)
				}
				p.answer.Store(nil)
				w.mustGet("a.example.com")
				before := p.calls.Load()
				time.Sleep(time.Second)
				w.mustGet("a.example.com")
				if p.calls.Load() != before {
					t.Error("a fresh approval was not enough")
				}
			})
		})
	}
}
