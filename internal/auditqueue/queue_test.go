package auditqueue

import (
	"context"
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
