package certmgr_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/audit"
)

// A policy that is declared not to block is called by the handshake itself, and
// decides like any other.
func TestNonBlockingPolicyIsCalledInTheHandshake(t *testing.T) {
	stack := ""
	policy := func(_ context.Context, host string) error {
		buf := make([]byte, 64<<10)
		stack = string(buf[:runtime.Stack(buf, false)])
		switch host {
		case "a.example.com":
			return nil
		case "undecided.example.com":
			return fmt.Errorf("file: %w", os.ErrDeadlineExceeded)
		}
		return errDenied
	}
	policyWorld(t, certmgr.NonBlocking(policy), func(t *testing.T, w *world) {
		w.mustGet("a.example.com")
		if _, err := w.get("b.example.com"); err != errDenied {
			t.Errorf("a refusal became %v", err)
		}
		if !strings.Contains(stack, "GetCertificate") {
			t.Errorf("the policy was called by another goroutine:\n%s", stack)
		}
		if _, err := w.get("undecided.example.com"); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a policy that cannot decide: %v", err)
		}
		if e := w.events.of(audit.PolicyFailed); len(e) != 1 || e[0].Host != "undecided.example.com" {
			t.Errorf("events: %v", e)
		}
		w.m.Close()
		if _, err := w.get("b.example.com"); !errors.Is(err, certmgr.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	})
}

// Its panic, and that of its error, is told and harms nobody.
func TestNonBlockingPolicyThatPanics(t *testing.T) {
	for name, policy := range map[string]certmgr.HostPolicy{
		"panic":         func(context.Context, string) error { panic("boom") },
		"error's panic": func(context.Context, string) error { return &brokenError{} },
	} {
		t.Run(name, func(t *testing.T) {
			policyWorld(t, certmgr.NonBlocking(policy), func(t *testing.T, w *world) {
				if _, err := w.get("a.example.com"); !errors.Is(err, certmgr.ErrPolicy) || !strings.Contains(err.Error(), "boom") {
					t.Errorf("got %v", err)
				}
				synctest.Wait()
				if e := w.events.of(audit.CallbackPanicked); len(e) != 1 || e[0].Reason != "HostPolicy" || e[0].Stack == "" {
					t.Errorf("events: %v", e)
				}
			})
		})
	}
}

// AllowAnyHost is recognised within it, and HostWhitelist stays what it is.
func TestNonBlockingKeepsWhatAPolicyIs(t *testing.T) {
	if certmgr.NonBlocking(nil) != nil {
		t.Error("NonBlocking(nil) is a policy")
	}
	policyWorld(t, certmgr.NonBlocking(certmgr.AllowAnyHost), func(t *testing.T, w *world) {
		w.mustGet("www.stranger.com")
		if e := w.events.of(audit.IssuanceStarted); len(e) != 1 || e[0].Rule != "AllowAnyHost" {
			t.Errorf("events: %v", e)
		}
	})
	policyWorld(t, certmgr.NonBlocking(certmgr.HostWhitelist("a.example.com")), func(t *testing.T, w *world) {
		if _, err := w.get("b.example.com"); !errors.Is(err, certmgr.ErrHostNotAllowed) || !strings.Contains(err.Error(), "HostWhitelist") {
			t.Errorf("got %v", err)
		}
	})
}

// A client that leaves is not a failure of the policy.
func TestVisitorWhoLeavesIsNotTheNonBlockingPolicysFailure(t *testing.T) {
	policy := func(ctx context.Context, _ string) error {
		<-ctx.Done()
		return ctx.Err()
	}
	policyWorld(t, certmgr.NonBlocking(policy), func(t *testing.T, w *world) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		w.handshake(ctx, "www.example.org")
		synctest.Wait()
		if e := w.events.of(audit.PolicyFailed); len(e) != 0 {
			t.Error(e)
		}
	})
}
