package certmgr

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr/audit"
)

// The error of a policy that gave no answer says what happened, and speaks of a
// timeout only if it was one.
func TestPolicyFailureSaysWhatHappened(t *testing.T) {
	const timeout = "no answer within 5s"
	tests := []struct {
		name   string
		policy HostPolicy
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
				if !errors.Is(err, ErrPolicy) || !strings.Contains(err.Error(), tt.want) || tt.want != timeout && strings.Contains(err.Error(), timeout) {
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
		if _, err := w.get("a.example.com"); !errors.Is(err, ErrClosed) || errors.Is(err, ErrPolicy) {
			t.Errorf("got %v, want ErrClosed", err)
		}
		if e := w.events.of(audit.PolicyFailed); len(e) != 0 {
			t.Errorf("events: %v", e)
		}
	})
}
