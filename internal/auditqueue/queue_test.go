package auditqueue

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr/audit"
)

func TestSlowHookLosesEventsAndSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var got []audit.Event
		q := &Queue{Now: time.Now, Hook: func() func(context.Context, audit.Event) {
			return func(_ context.Context, e audit.Event) { <-release; got = append(got, e) }
		}}
		for range maxQueued + 100 {
			q.Emit(audit.Event{Kind: audit.CertificateIssued})
		}
		close(release)
		if err := q.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		last := got[len(got)-1]
		if last.Seq != maxQueued+101 {
			t.Errorf("the last of %d events has the number %d: those that are lost have one too", maxQueued+101, last.Seq)
		}
		if last.Kind != audit.EventsDropped || last.Count < 99 || len(got)+last.Count != maxQueued+101 {
			t.Errorf("%d events delivered, the last one is %v", len(got), last)
		}
	})
}

// A hook that panics or ends its goroutine loses the event that it got, and no
// other. The stack of a panic is told once a minute at most.
func TestHookThatDiesGetsTheNextEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		defer slog.SetDefault(slog.Default())
		slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
		var got []uint64
		q := &Queue{Now: time.Now, Hook: func() func(context.Context, audit.Event) {
			return func(_ context.Context, e audit.Event) {
				got = append(got, e.Seq)
				switch e.Seq {
				case 1, 2, 4:
					panic("boom")
				case 3:
					runtime.Goexit()
				}
			}
		}}
		for seq := range uint64(5) {
			if seq == 3 {
				time.Sleep(2 * time.Minute)
			}
			q.Emit(audit.Event{Kind: audit.CertificateIssued})
			if err := q.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			synctest.Wait() // a panic is told by the goroutine that ends with it
		}
		if want := []uint64{1, 2, 3, 4, 5}; !slices.Equal(got, want) {
			t.Errorf("the hook got the events %v, want %v", got, want)
		}
		if panics, stacks := strings.Count(log.String(), "boom"), strings.Count(log.String(), "stack="); panics != 3 || stacks != 2 {
			t.Errorf("%d panics and %d stacks are told, want 3 and 2, one a minute:\n%s", panics, stacks, log.String())
		}
	})
}

// What a Snapshot shows is bounded, and the latest.
func TestLastEventsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &Queue{Now: time.Now, Hook: func() func(context.Context, audit.Event) {
			return func(context.Context, audit.Event) {}
		}}
		for range 3 * maxHistory {
			q.Emit(audit.Event{Kind: audit.IssuanceFailed, Err: io.EOF})
		}
		failures, events := q.Last()
		if len(failures) != maxRecent || len(events) != maxHistory {
			t.Errorf("%d failures and %d events are kept, want %d and %d", len(failures), len(events), maxRecent, maxHistory)
		}
		for _, list := range [][]audit.Event{failures, events} {
			if last := list[len(list)-1].Seq; last != 3*maxHistory {
				t.Errorf("the last event kept is number %d, want %d", last, 3*maxHistory)
			}
		}
	})
}

// flooded returns a queue whose hook has not returned, with n events of strangers.
func flooded(n int, deliver func(audit.Event)) (q *Queue, release func()) {
	hold := make(chan struct{})
	q = &Queue{
		Now:         time.Now,
		IsStrangers: func(e audit.Event) bool { return e.Host == "stranger" },
		Hook: func() func(context.Context, audit.Event) {
			return func(_ context.Context, e audit.Event) { <-hold; deliver(e) }
		},
	}
	for range n {
		q.Emit(audit.Event{Kind: audit.IssuanceFailed, Host: "stranger"})
	}
	return q, func() { close(hold) }
}

// However many events strangers cause, there is room for the others.
func TestStrangersDisplaceNoEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		got := make(map[string]int)
		q, release := flooded(10_000, func(e audit.Event) { got[e.Host]++ })
		for range 500 {
			q.Emit(audit.Event{Kind: audit.IssuanceFailed, Host: "listed"})
			q.EmitReserved(audit.Event{Kind: audit.HostDropped, Host: "stranger"}) // it was on the list until now
		}
		release()
		if err := q.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		// One was with the hook before the queue was full.
		if got["listed"] != 500 || got["stranger"] != 1+3072+500 {
			t.Errorf("500 events of each kind and 10,000 of strangers: got %v", got)
		}
		if _, lost := q.Totals(); lost != 10_000-1-3072 {
			t.Errorf("%d lost", lost)
		}
		q.Emit(audit.Event{Kind: audit.IssuanceFailed, Host: "stranger"})
		if q.Flush(t.Context()); got["stranger"] != 1+3072+500+1 {
			t.Error("a place that became free was not used")
		}
	})
}

// Strangers have a share of the recent events and failures, and the rest if nobody else
// wants it.
func TestStrangersHaveAShareOfTheRecentEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, release := flooded(100, func(audit.Event) {})
		defer release()
		count := func() string {
			failures, events := q.Last()
			strangers := func(list []audit.Event) (n int) {
				for i, e := range list {
					if i > 0 && list[i-1].Seq >= e.Seq {
						t.Errorf("event %d is after %d", e.Seq, list[i-1].Seq)
					}
					if e.Host == "stranger" {
						n++
					}
				}
				return n
			}
			return fmt.Sprintf("%d of %d failures, %d of %d events", strangers(failures), len(failures), strangers(events), len(events))
		}
		emit := func(n int, host string) {
			for range n {
				q.Emit(audit.Event{Kind: audit.IssuanceFailed, Host: host})
			}
		}
		want := func(what, want string) {
			t.Helper()
			if got := count(); got != want {
				t.Errorf("%s: the strangers have %s, want %s", what, got, want)
			}
		}
		want("alone", "32 of 32 failures, 64 of 64 events")
		emit(10, "listed")
		want("after a few others", "22 of 32 failures, 54 of 64 events")
		emit(100, "listed")
		want("after many others", "0 of 32 failures, 0 of 64 events")
		emit(1000, "stranger")
		want("after a flood", "8 of 32 failures, 16 of 64 events")
		emit(1, "listed")
		want("after one more", "8 of 32 failures, 16 of 64 events")
	})
}
