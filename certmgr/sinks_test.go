package certmgr

import (
	"bytes"
	"context"
	"errors"
	"io"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestAuditJSONWritesOneLineAnEvent(t *testing.T) {
	var writes [][]byte // AuditJSON sees to it that one at a time is appended
	hook := AuditJSON(writerFunc(func(p []byte) (int, error) {
		writes = append(writes, bytes.Clone(p))
		return len(p), nil
	}))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				hook(t.Context(), Event{Kind: EventIssued, Reason: "a\nb"})
			}
		})
	}
	wg.Wait()
	if len(writes) != 800 {
		t.Fatalf("%d writes for 800 events", len(writes))
	}
	for _, w := range writes {
		if bytes.Count(w, []byte("\n")) != 1 || !bytes.HasSuffix(w, []byte("}\n")) {
			t.Fatalf("not one line: %q", w)
		}
	}
}

// An event that cannot be written is not swallowed, and a writer that panics does
// not keep the next event from being written.
func TestAuditJSONThatCannotWriteSaysSo(t *testing.T) {
	log := quietLog(t)
	fail := AuditJSON(writerFunc(func([]byte) (int, error) { return 0, io.ErrShortWrite }))
	fail(t.Context(), Event{Kind: EventIssueFailed, Host: "a.example.com", Err: errors.New("the CA's reason")})
	for _, part := range []string{"short write", "a.example.com", "the CA's reason"} {
		if !strings.Contains(log.String(), part) {
			t.Errorf("the log lacks %q: %s", part, log)
		}
	}
	calls := 0
	flaky := AuditJSON(writerFunc(func(p []byte) (int, error) {
		if calls++; calls == 1 {
			panic("disk on fire")
		}
		return len(p), nil
	}))
	func() {
		defer func() { recover() }()
		flaky(t.Context(), Event{})
	}()
	flaky(t.Context(), Event{})
	if calls != 2 {
		t.Errorf("%d writes, want 2", calls)
	}
}

// A write that hangs holds up the others that share the writer for as long as their
// own context lasts, and what they had to say is in the log.
func TestAuditJSONWaitsForItsContextAlone(t *testing.T) {
	log := quietLog(t)
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		hook := AuditJSON(writerFunc(func(p []byte) (int, error) { <-release; return len(p), nil }))
		go hook(context.Background(), Event{Kind: EventIssued})
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		hook(ctx, Event{Kind: EventIssueFailed, Host: "b.example.com"})
		close(release)
	})
	if !strings.Contains(log.String(), "b.example.com") || !strings.Contains(log.String(), "has not returned") {
		t.Errorf("the log: %s", log)
	}
}

func TestAuditAllReachesEveryHook(t *testing.T) {
	var got []string
	note := func(name string) func(context.Context, Event) {
		return func(context.Context, Event) { got = append(got, name) }
	}
	tests := map[string]struct {
		bad   func(context.Context, Event)
		panic any
	}{
		"a nil hook":       {nil, nil},
		"one that panics":  {func(context.Context, Event) { panic("boom") }, "boom"},
		"one that Goexits": {func(context.Context, Event) { runtime.Goexit() }, nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got = nil
			var recovered any
			var wg sync.WaitGroup
			wg.Go(func() {
				defer func() { recovered = recover() }()
				AuditAll(note("first"), test.bad, note("second"), test.bad, note("third"))(t.Context(), Event{})
			})
			wg.Wait()
			if strings.Join(got, " ") != "first second third" || recovered != test.panic {
				t.Errorf("called %q, panic %v", got, recovered)
			}
		})
	}
}
