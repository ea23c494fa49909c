package certmgr_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/preflight"
	"github.com/nostall/nostall/internal/challenge"
	"github.com/nostall/nostall/internal/probe"
	"github.com/nostall/nostall/internal/text"
)

// Whatever the check cannot tell holds nothing back.
func TestPreflightThatCannotTellHoldsNothingBack(t *testing.T) {
	hang := make(chan struct{})
	tests := []struct {
		name  string
		set   func(n *internet)
		want  string
		takes time.Duration
	}{
		{"resolver fails", func(n *internet) {
			n.lookup = func(context.Context, string) ([]netip.Addr, error) {
				return nil, &net.DNSError{Err: "server misbehaving", Name: "a.example.com", IsTemporary: true}
			}
		}, "server misbehaving; so it is unknown whether the name leads here", 0},
		{"resolver hangs", func(n *internet) {
			n.lookup = func(context.Context, string) ([]netip.Addr, error) { <-hang; return nil, nil }
		}, "deadline exceeded", probe.LookupTimeout},
		{"resolver panics", func(n *internet) {
			n.lookup = func(context.Context, string) ([]netip.Addr, error) { panic("boom") }
		}, `PreflightResolver for "a.example.com": callback panicked: boom;`, 0},
		{"dial panics", func(n *internet) {
			n.dialed = func(context.Context, string) (net.Conn, error) { panic("boom") }
		}, `callback panicked: boom; so`, 0},
		{"dial returns nothing", func(n *internet) {
			n.dialed = func(context.Context, string) (net.Conn, error) { return nil, nil }
		}, "PreflightDial returned neither a connection nor an error", 0},
		{"connection panics", func(n *internet) {
			n.dialed = func(context.Context, string) (net.Conn, error) { return panickyConn{}, nil }
		}, "callback panicked: boom", 0},
		{"no IPv6 here", func(n *internet) {
			n.name("a.example.com", "2001:db8::1")
			n.dialed = func(context.Context, string) (net.Conn, error) {
				return nil, &net.OpError{Op: "dial", Err: errors.New("connect: network is unreachable")}
			}
		}, "port 443 of 2001:db8::1: not asked, this machine has no route to it", 0},
		{"no IPv6 in this container", func(n *internet) { n.dialed = dialFails("connect: cannot assign requested address") },
			"not asked, this machine has no route to it", 0},
		{"no descriptor left", func(n *internet) { n.dialed = dialFails("socket: too many open files") }, "too many open files; so", 0},
		{"egress filter", func(n *internet) { n.dialed = dialFails("connect: operation not permitted") }, "operation not permitted; so", 0},
		{"proxy of PreflightDial", func(n *internet) { n.dialed = dialFails("general SOCKS server failure") }, "SOCKS server failure; so", 0},
		{"hosts file", func(n *internet) { n.name("a.example.com", "127.0.1.1") }, "a loopback address, not asked", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				hang = make(chan struct{})
				defer close(hang)
				n := w.preflight(preflight.Enforce)
				tt.set(n)
				start := time.Now()
				w.mustGet("a.example.com")
				if d := time.Since(start); d < tt.takes || d > tt.takes+time.Second {
					t.Errorf("took %v, want %v", d, tt.takes)
				}
				events := w.events.of(audit.HostUnreachable)
				if len(events) != 1 || events[0].Decision != audit.Undecided || errors.Is(events[0].Err, certmgr.ErrUnreachable) {
					t.Fatalf("events: %v", events)
				}
				if text := events[0].Err.Error(); !strings.Contains(text, tt.want) || len(text) > maxPreflightText || strings.Contains(text, "goroutine") {
					t.Errorf("%s\ndoes not say %q", text, tt.want)
				}
			})
		})
	}
}

func dialFails(text string) func(context.Context, string) (net.Conn, error) {
	return func(context.Context, string) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: errors.New(text)}
	}
}

// What a CA says at length does not push the finding out of the error.
func TestDiagnosisIsNotCutOff(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		n := w.preflight(preflight.Report)
		w.m.HTTPHandler(nil)
		n.name("a.example.com", "192.0.2.7")
		for _, typ := range []string{challenge.TLSALPN01, challenge.HTTP01} {
			w.ca.FailValidation("a.example.com", typ, acmetest.Problem{Type: "connection", Detail: strings.Repeat("long ", 100)})
		}
		w.get("a.example.com")
		err := certmgr.InFull(w.wantErr("a.example.com", certmgr.ErrBackoff))
		for _, want := range []string{"tls-alpn-01: authorization is invalid", "leads to 192.0.2.7", "take it off the list; to try again at once, ", "; next attempt "} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%v\ndoes not say %q", err, want)
			}
		}
		if !errors.Is(err, certmgr.ErrUnreachable) || len(text.Problems(err)) == 0 {
			t.Errorf("the causes are lost: %v", err)
		}
	})
}

type panickyConn struct{ net.Conn }

func (panickyConn) SetDeadline(time.Time) error { return nil }
func (panickyConn) Write([]byte) (int, error)   { panic("boom") }
func (panickyConn) Close() error                { return nil }

// No more addresses are asked than the bound, and each once.
func TestPreflightIsBounded(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		n := w.preflight(preflight.Enforce)
		w.m.HTTPHandler(nil)
		var many []string
		for i := range 100 {
			many = append(many, fmt.Sprintf("198.51.100.%d", i), "198.51.100.1")
		}
		n.name("a.example.com", many...)
		n.dialed = blackhole
		start := time.Now()
		_, err := w.get("a.example.com")
		if d := time.Since(start); d > probe.Timeout {
			t.Errorf("took %v", d)
		}
		if _, dials := n.used(); dials != 2*probe.MaxAsked {
			t.Errorf("%d connections", dials)
		}
		if err == nil || !strings.Contains(certmgr.InFull(err).Error(), "more") || len(certmgr.InFull(err).Error()) > text.MaxError {
			t.Error(certmgr.InFull(err))
		}
	})
}

// The parts of a check have bounds of their own, and share one.
func TestPreflightIsBoundedAsAWhole(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		n := w.preflight(preflight.Report)
		n.lookup = func(context.Context, string) ([]netip.Addr, error) {
			time.Sleep(probe.LookupTimeout - time.Millisecond)
			return addrs("192.0.2.1"), nil
		}
		n.dialed = blackhole
		w.cache.put(func(ctx context.Context, key string) error { <-ctx.Done(); return ctx.Err() })
		start := time.Now()
		found := w.check()
		if d := time.Since(start); d != probe.Timeout {
			t.Errorf("took %v: %v", d, found)
		}
		if !errors.Is(found, certmgr.ErrUnreachable) {
			t.Error(found)
		}
	})
}

// An attempt that starts again, with another account key, is not checked again.
func TestPreflightOnceInAnAttempt(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		n := w.preflight(preflight.Report)
		w.mustGet("a.example.com")
		before, _ := n.used()
		fault := w.ca.Stall(acmetest.Match{Endpoint: acmetest.Finalize})
		renewed := make(chan error, 1)
		go func() { renewed <- w.m.Renew(t.Context(), "a.example.com") }()
		time.Sleep(time.Second)
		w.mustRoll()
		fault.Lift()
		if err := <-renewed; err != nil {
			t.Error(err)
		}
		if n := w.orders("a.example.com"); n < 3 { // those by the key before included
			t.Errorf("%d orders: the attempt did not begin anew", n)
		}
		if lookups, _ := n.used(); lookups != before+1 {
			t.Errorf("%d lookups", lookups-before)
		}
	})
}

// What a Dial of the user's says is escaped and bounded in the finding, too.
func TestPreflightFindingIsEscaped(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		n := w.preflight(preflight.Report)
		n.dialed = func(context.Context, string) (net.Conn, error) {
			return nil, errors.New("\x1b[2J" + strings.Repeat("x", 10_000))
		}
		f := w.check().Findings
		if len(f) != 1 || !strings.HasPrefix(f[0].Answer, `\x1b[2Jxx`) || len(f[0].Answer) != maxAnswerText {
			t.Errorf("%+v", f)
		}
	})
}

// Close ends a preflight, whose answers are forgotten.
func TestCloseEndsAPreflight(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		n := w.preflight(preflight.Enforce)
		n.listen("192.0.2.1:443", serveSilence)
		done := make(chan error, 1)
		go func() {
			_, err := w.get("a.example.com")
			done <- err
		}()
		time.Sleep(time.Second)
		start := time.Now()
		if err := w.m.Close(); err != nil || time.Since(start) > time.Second {
			t.Errorf("Close: %v after %v", err, time.Since(start))
		}
		if err := <-done; !errors.Is(err, certmgr.ErrClosed) {
			t.Errorf("got %v", err)
		}
		synctest.Wait()
		if _, err := w.cache.Get(t.Context(), challenge.TLSALPN01Key("a.example.com")); !errors.Is(err, certmgr.ErrCacheMiss) {
			t.Errorf("the answer is still in the cache: %v", err)
		}
	})
}

// A Dial that never returns costs an attempt its bound, is named by Close, and is
// not called again for the same address.
func TestPreflightOutlivesAHungDial(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		n := w.preflight(preflight.Report)
		hang := make(chan struct{})
		defer close(hang)
		n.dialed = func(context.Context, string) (net.Conn, error) { <-hang; return nil, errors.New("late") }
		start := time.Now()
		w.mustGet("a.example.com")
		if d := time.Since(start); d > probe.Timeout {
			t.Errorf("took %v", d)
		}
		if err := w.m.Renew(t.Context(), "a.example.com"); err != nil {
			t.Error(err)
		}
		if _, dials := n.used(); dials != 1 {
			t.Errorf("%d calls of PreflightDial", dials)
		}
		if err := w.m.Close(); err == nil || !strings.Contains(err.Error(), "PreflightDial") {
			t.Errorf("Close: %v", err)
		}
	})
}

// A cache that hangs takes its own bound and no more from the check.
func TestPreflightOutlivesAHungCache(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.preflight(preflight.Enforce)
		w.cache.put(func(ctx context.Context, key string) error {
			if strings.HasSuffix(key, "+token") {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		})
		start := time.Now()
		w.check()
		if d := time.Since(start); d > probe.PresentTimeout+time.Second {
			t.Errorf("took %v", d)
		}
	})
}
