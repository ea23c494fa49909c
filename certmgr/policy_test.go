package certmgr_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/flight"
)

// brokenError panics in whatever asks it.
type brokenError struct{}

func (*brokenError) Error() string { return "broken" }
func (*brokenError) Timeout() bool { panic("boom") }

// An undecided policy takes no valid certificate out of service or from renewal,
// begins nothing for others, and its error reaches them as it is; a refusal ends
// the service within PolicyTTL.
func TestUndecidedPolicyChangesNothing(t *testing.T) {
	var answer atomic.Pointer[error]
	policy := func(context.Context, string) error {
		if err := answer.Load(); err != nil {
			return *err
		}
		return nil
	}
	for name, undecided := range map[string]error{
		"ErrPolicy": fmt.Errorf("%w: database is down", certmgr.ErrPolicy),
		"net":       &net.OpError{Op: "dial", Net: "tcp", Err: os.ErrDeadlineExceeded},
		"canceled":  fmt.Errorf("pool: %w", context.Canceled),
	} {
		t.Run(name, func(t *testing.T) {
			answer.Store(nil)
			policyWorld(t, policy, func(t *testing.T, w *world) {
				cert := w.mustGet("a.example.com")
				answer.Store(&undecided)
				for range 300 { // renewal included
					time.Sleep(8 * time.Hour)
					w.mustGet("a.example.com")
				}
				if w.mustGet("a.example.com").Leaf.Equal(cert.Leaf) {
					t.Error("the certificate was not renewed")
				}
				if _, err := w.get("b.example.com"); err != undecided {
					t.Errorf("a host without a certificate got %v, want the policy's own error", err)
				}
				w.wantOrders("b.example.com", 0)
				e := w.events.of(audit.PolicyFailed)
				if len(e) == 0 || e[0].Decision != audit.Undecided || e[0].Rule != "HostPolicy" || !errors.Is(e[0].Err, undecided) {
					t.Errorf("events: %.3v", e)
				}
				if len(w.events.of(audit.HostDropped)) != 0 {
					t.Error("the host was dropped")
				}

				no := errors.New("not a customer")
				answer.Store(&no)
				time.Sleep(policyTTL + time.Second)
				w.get("a.example.com") // is served and has the policy asked
				synctest.Wait()
				if _, err := w.get("a.example.com"); err != no {
					t.Errorf("got %v after a refusal", err)
				}
				if e := w.events.of(audit.HostDropped); len(e) != 1 || e[0].Rule != "HostPolicy" || e[0].Decision != audit.Refused {
					t.Errorf("events: %v", e)
				}
			})
		})
	}
}

// The methods of a policy's error are the user's code: they may panic.
func TestPolicyErrorThatPanics(t *testing.T) {
	policyWorld(t, func(context.Context, string) error { return &brokenError{} }, func(t *testing.T, w *world) {
		if _, err := w.get("a.example.com"); !errors.Is(err, certmgr.ErrPolicy) {
			t.Errorf("got %v, want ErrPolicy", err)
		}
	})
}

// A host that the policy refused stays out of service while the policy fails,
// although its certificate is still in memory.
func TestPolicyFailureServesNoRefusedHost(t *testing.T) {
	var answer atomic.Pointer[error]
	policy := func(context.Context, string) error {
		if err := answer.Load(); err != nil {
			return *err
		}
		return nil
	}
	policyWorld(t, policy, func(t *testing.T, w *world) {
		w.m.PolicyTTL = -1
		w.mustGet("a.example.com")
		no, failed := errors.New("not a customer"), fmt.Errorf("database: %w", context.DeadlineExceeded)
		answer.Store(&no)
		if _, err := w.get("a.example.com"); err != no {
			t.Fatalf("got %v, want the policy's own error", err)
		}
		answer.Store(&failed)
		if _, err := w.get("a.example.com"); err != failed {
			t.Errorf("got %v while the policy fails, want its error", err)
		}
		if w.m.Close(); t.Failed() {
			return
		}
		if _, err := w.get("a.example.com"); !errors.Is(err, certmgr.ErrClosed) {
			t.Errorf("got %v after Close, want ErrClosed", err)
		}
	})
}

// An answer of the policy that lies in the future is none: it was given by a clock
// that was ahead, and would hold until that time comes.
func TestPolicyIsAskedAgainAfterTheClockWentBack(t *testing.T) {
	var refuses atomic.Bool
	policy := func(context.Context, string) error {
		if refuses.Load() {
			return errors.New("not a customer")
		}
		return nil
	}
	for name, askedBefore := range map[string]bool{"never asked again": false, "asked again before": true} {
		t.Run(name, func(t *testing.T) {
			refuses.Store(false)
			policyWorld(t, policy, func(t *testing.T, w *world) {
				var ahead atomic.Int64
				ahead.Store(int64(day))
				certmgr.SetClock(w.m, func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) })
				w.mustGet("a.example.com")
				if askedBefore {
					time.Sleep(2 * policyTTL)
					w.mustGet("a.example.com")
					synctest.Wait()
				}
				ahead.Store(0)
				refuses.Store(true)
				time.Sleep(time.Minute)
				w.get("a.example.com") // is served, and has the policy asked
				synctest.Wait()
				if _, err := w.get("a.example.com"); err == nil {
					t.Error("a host that the policy refuses is served")
				}
			})
		})
	}
}

// Without a cache, a policy that refuses for a moment costs no certificate.
func TestPolicyThatChangesItsMindCostsNoOrder(t *testing.T) {
	var down atomic.Bool
	policyWorld(t, func(context.Context, string) error {
		if down.Load() {
			return errors.New("dial tcp 10.0.0.5:5432: connect: connection refused")
		}
		return nil
	}, func(t *testing.T, w *world) {
		w.m.Cache = nil
		w.mustGet("a.example.com")
		for range 5 {
			time.Sleep(2 * time.Minute)
			down.Store(true)
			w.get("a.example.com")
			time.Sleep(time.Second)
			down.Store(false)
			w.get("a.example.com")
			time.Sleep(time.Second)
		}
		w.wantOrders("a.example.com", 1)
	})
}

// A client that leaves is not a failure of the policy.
func TestVisitorWhoLeavesIsNotThePolicysFailure(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.HostPolicy = func(ctx context.Context, _ string) error { return flight.Sleep(ctx, time.Second) }
		ctx, cancel := context.WithTimeout(t.Context(), time.Second/10)
		defer cancel()
		w.handshake(ctx, "www.example.org")
		if e := w.events.of(audit.PolicyFailed); len(e) != 0 {
			t.Error(e)
		}
	})
}

// A policy that panics is told to slog while no hook is set.
func TestPolicyFailureIsReported(t *testing.T) {
	log := quietLog(t)
	policyWorld(t, func(context.Context, string) error { panic("nil map") }, func(t *testing.T, w *world) {
		w.m.Audit = nil
		w.get("a.example.com")
		synctest.Wait()
		if !strings.Contains(log.String(), "nil map") {
			t.Errorf("log: %q", log.String())
		}
	})
}

// The error of a policy that gave no answer says what happened, and speaks of a
// timeout only if it was one.
func TestPolicyFailureSaysWhatHappened(t *testing.T) {
	const timeout = "no answer within 5s"
	tests := []struct {
		name   string
		policy certmgr.HostPolicy
		want   string
	}{
		{"panic", func(context.Context, string) error { panic("boom") }, "callback panicked: boom"},
		{"Goexit", func(context.Context, string) error { runtime.Goexit(); return nil }, "callback called runtime.Goexit"},
		{"error that panics", func(context.Context, string) error { return &brokenError{} }, "callback panicked: boom"},
		{"hang", nil, timeout},
		{"hangs still", nil, "has not returned since 2000-01-01T00:00:00Z"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var release chan struct{}
			if tt.policy == nil {
				tt.policy = func(context.Context, string) error { <-release; return nil }
			}
			policyWorld(t, tt.policy, func(t *testing.T, w *world) {
				release = make(chan struct{})
				defer close(release)
				_, err := w.get("a.example.com")
				if tt.name == "hangs still" {
					_, err = w.get("a.example.com")
				}
				if !errors.Is(err, certmgr.ErrPolicy) || !strings.Contains(err.Error(), tt.want) || tt.want != timeout && strings.Contains(err.Error(), timeout) {
					t.Errorf("got %v, want %q", err, tt.want)
				}
			})
		})
	}
}

// What Close cuts short is not the policy's fault.
func TestPolicyCutShortByClose(t *testing.T) {
	policyWorld(t, nil, func(t *testing.T, w *world) {
		release := make(chan struct{})
		defer close(release)
		w.m.HostPolicy = func(context.Context, string) error { <-release; return nil }
		time.AfterFunc(time.Second, func() { w.m.Close() })
		if _, err := w.get("a.example.com"); !errors.Is(err, certmgr.ErrClosed) || errors.Is(err, certmgr.ErrPolicy) {
			t.Errorf("got %v, want ErrClosed", err)
		}
		if e := w.events.of(audit.PolicyFailed); len(e) != 0 {
			t.Errorf("events: %v", e)
		}
	})
}

// A policy that timed out is asked again at the next handshake, once it has
// returned. While it hangs, no handshake waits for it again.
func TestPolicyThatTimedOutIsAskedAgain(t *testing.T) {
	for name, heeds := range map[string]bool{"heeds its context": true, "ignores it": false} {
		t.Run(name, func(t *testing.T) {
			var calls, running atomic.Int32
			policy := func(ctx context.Context, host string) error {
				if running.Add(1) != 1 {
					t.Error("two calls at the same time")
				}
				defer running.Add(-1)
				if calls.Add(1) > 1 {
					return nil
				}
				if !heeds {
					ctx = context.WithoutCancel(ctx)
				}
				return flight.Sleep(ctx, 6*time.Second)
			}
			policyWorld(t, policy, func(t *testing.T, w *world) {
				start := time.Now()
				w.get("a.example.com")
				if d := time.Since(start); d > policyTimeout+flight.Grace {
					t.Errorf("the first visitor waited %v", d)
				}
				if !heeds {
					err := w.wantErr("a.example.com", certmgr.ErrPolicy)
					if !errors.Is(err, certmgr.ErrBusy) || !strings.Contains(err.Error(), "has not returned since") {
						t.Errorf("got %v", err)
					}
					time.Sleep(time.Second)
				}
				w.mustGet("a.example.com")
				if n := calls.Load(); n != 2 {
					t.Errorf("%d calls", n)
				}
			})
		})
	}
}
