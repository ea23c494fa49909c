package audit_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr/audit"
)

func TestJSONWritesOneLineAnEvent(t *testing.T) {
	var writes [][]byte // audit.JSON serialises the appends
	hook := audit.JSON(writerFunc(func(p []byte) (int, error) {
		writes = append(writes, bytes.Clone(p))
		return len(p), nil
	}))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				hook(t.Context(), audit.Event{Kind: audit.CertificateIssued, Reason: "a\nb"})
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

// An event that cannot be written is not swallowed, and a writer that panics
// does not block the next event.
func TestJSONThatCannotWriteSaysSo(t *testing.T) {
	log := quietLog(t)
	fail := audit.JSON(writerFunc(func([]byte) (int, error) { return 0, io.ErrShortWrite }))
	fail(t.Context(), audit.Event{Kind: audit.IssuanceFailed, Host: "a.example.com", Err: errors.New("the CA's reason")})
	for _, part := range []string{"short write", "a.example.com", "the CA's reason"} {
		if !strings.Contains(log.String(), part) {
			t.Errorf("the log lacks %q: %s", part, log)
		}
	}
	calls := 0
	flaky := audit.JSON(writerFunc(func(p []byte) (int, error) {
		if calls++; calls == 1 {
			panic("disk on fire")
		}
		return len(p), nil
	}))
	func() {
		defer func() { recover() }()
		flaky(t.Context(), audit.Event{})
	}()
	flaky(t.Context(), audit.Event{})
	if calls != 2 {
		t.Errorf("%d writes, want 2", calls)
	}
}

// A write that hangs delays the other users of the writer only until their own
// context ends. Their events go to the log.
func TestJSONWaitsForItsContextAlone(t *testing.T) {
	log := quietLog(t)
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		hook := audit.JSON(writerFunc(func(p []byte) (int, error) { <-release; return len(p), nil }))
		go hook(context.Background(), audit.Event{Kind: audit.CertificateIssued})
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		hook(ctx, audit.Event{Kind: audit.IssuanceFailed, Host: "b.example.com"})
		close(release)
	})
	if !strings.Contains(log.String(), "b.example.com") || !strings.Contains(log.String(), "has not returned") {
		t.Errorf("the log: %s", log)
	}
}

func TestAllReachesEveryHook(t *testing.T) {
	var got []string
	note := func(name string) func(context.Context, audit.Event) {
		return func(context.Context, audit.Event) { got = append(got, name) }
	}
	tests := map[string]struct {
		bad   func(context.Context, audit.Event)
		panic any
	}{
		"a nil hook":       {nil, nil},
		"one that panics":  {func(context.Context, audit.Event) { panic("boom") }, "boom"},
		"one that Goexits": {func(context.Context, audit.Event) { runtime.Goexit() }, nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got = nil
			var recovered any
			var wg sync.WaitGroup
			wg.Go(func() {
				defer func() { recovered = recover() }()
				audit.All(note("first"), test.bad, note("second"), test.bad, note("third"))(t.Context(), audit.Event{})
			})
			wg.Wait()
			if strings.Join(got, " ") != "first second third" || recovered != test.panic {
				t.Errorf("called %q, panic %v", got, recovered)
			}
		})
	}
}

// quietLog keeps slog.Default() out of the test's output and returns what was
// logged.
func quietLog(t *testing.T) *strings.Builder {
	t.Helper()
	var mu sync.Mutex
	var b strings.Builder
	old := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(writerFunc(func(p []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return b.Write(p)
	}), nil)))
	t.Cleanup(func() { slog.SetDefault(old) })
	return &b
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
