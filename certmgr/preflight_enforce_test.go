package certmgr_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/preflight"
)

// Enforce: the name's failure is the host's own and costs no order. A name on the list
// waits for DNS, another one backs off, also over a restart.
func TestPreflightEnforces(t *testing.T) {
	for _, tt := range preflightCases {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.preflightEnforces(tt, certmgr.StateWaitingForDNS)
			})
			inBubble(t, func(t *testing.T, w *world) {
				w.m.Hosts, w.m.HostPolicy = nil, certmgr.HostWhitelist("a.example.com")
				w.preflightEnforces(tt, certmgr.StateBackoff)
				w.spendExtras("a.example.com")
				w.restart()
				if err := w.wantErr("a.example.com", certmgr.ErrBackoff); !errors.Is(err, certmgr.ErrUnreachable) {
					t.Errorf("after a restart: %v", err)
				}
			})
		})
	}
}

func (w *world) preflightEnforces(tt preflightCase, state certmgr.HostState) {
	t := w.t
	n := w.preflight(preflight.Enforce)
	tt.set(t, w, n)
	start := time.Now()
	_, err := w.get("a.example.com")
	if d := time.Since(start); d < tt.at || d > tt.at+time.Second {
		t.Errorf("took %v, want %v", d, tt.at)
	}
	checkPreflightText(t, certmgr.InFull(err), tt)
	var e *certmgr.IssuanceError
	if !errors.As(err, &e) || e.Stage != audit.StagePreflight || !errors.Is(err, certmgr.ErrUnreachable) || !e.RetryAt.After(time.Now()) {
		t.Fatalf("got %v", err)
	}
	if strings.Contains(err.Error(), w.ca.URL) {
		t.Errorf("%v\nnames the CA, which was not asked", err)
	}
	events := w.events.of(audit.HostUnreachable)
	if len(events) != 1 || events[0].Decision != audit.Refused || events[0].Rule != "Preflight: enforce" || events[0].Attempt != e.Attempt {
		t.Errorf("events: %v", events)
	}
	w.wantOrders("a.example.com", 0)
	if len(w.events.of(audit.CAUnavailable)) != 0 {
		t.Error("the CA was held to be out of service")
	}
	w.wantErr("a.example.com", certmgr.ErrBackoff)
	if e.State != state || w.state().State != state {
		t.Errorf("the host's state is %q, and the error's %q", w.state().State, e.State)
	}
}
