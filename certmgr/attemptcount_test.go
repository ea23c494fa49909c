package certmgr

import (
	"fmt"
	"testing"
	"time"
)

// A clock that is set back, however often, makes a host wait for an hour at most.
func TestAttemptsFollowTheClock(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, moved := range []time.Duration{-365 * 24 * time.Hour, -time.Minute, 0, time.Minute, 365 * 24 * time.Hour} {
		a := newAttempts()
		for i := range maxAttempts {
			if next, _ := a.begin("a.example.com", now.Add(time.Duration(i)*time.Second)); !next.IsZero() {
				t.Fatalf("attempt %d has to wait until %v", i, next)
			}
		}
		at := now.Add(time.Minute + moved)
		next, _ := a.begin("a.example.com", at)
		if wait := next.Sub(at); next.IsZero() != (moved > attemptWindow) || wait > attemptWindow {
			t.Errorf("moved by %v: the next attempt is at %v", moved, next)
		}
		if next, _ := a.begin("a.example.com", at.Add(attemptWindow)); !next.IsZero() {
			t.Errorf("moved by %v: an hour later the next attempt is at %v", moved, next)
		}
	}
}

// Each wait is told once.
func TestRefusedAttemptsAreToldOnce(t *testing.T) {
	now, a, told := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), newAttempts(), 0
	for i := range 2 * int(attemptWindow/time.Second) {
		if _, tell := a.begin("a.example.com", now.Add(time.Duration(i)*time.Second)); tell {
			told++
		}
	}
	if told > 2*maxAttempts {
		t.Errorf("%d waits were told in two hours", told)
	}
}

// The attempts of names that strangers make up have a cap, and those of hosts whose
// attempts came to nothing stay.
func TestCountedAttemptsAreBounded(t *testing.T) {
	t.Parallel()
	now, a := time.Now(), newAttempts()
	for range maxAttempts {
		a.begin("a.example.com", now)
	}
	for i := range 3 * maxAttemptHosts {
		host := fmt.Sprintf("www.stranger%d.com", i)
		a.begin(host, now)
		a.end(host, now)
	}
	if n := a.hosts.Len(); n > maxAttemptHosts {
		t.Errorf("%d hosts, want %d at most", n, maxAttemptHosts)
	}
	if next, _ := a.begin("a.example.com", now); next.IsZero() {
		t.Error("strangers made the attempts of a host forgotten")
	}
	for range 1000 {
		a.begin("b.example.com", now)
		a.end("b.example.com", now)
	}
	if b, _ := a.hosts.Get("b.example.com"); len(b.list) > 2*maxAttempts+1 {
		t.Errorf("%d attempts of a host are kept", len(b.list))
	}
}

// Both key types of a host count together, and an attempt that did not begin does
// not count.
func TestAttemptsThatDidNotBeginDoNotCount(t *testing.T) {
	now, a := time.Now(), newAttempts()
	for range 10 * maxAttempts {
		if next, _ := a.begin("a.example.com", now); !next.IsZero() {
			t.Fatal("refused")
		}
		a.undo("a.example.com", now)
	}
	a.undo("a.example.com", now) // there is none
	a.end("b.example.com", now)
}
