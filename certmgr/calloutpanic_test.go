package certmgr

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/text"
)

// mapWriter panics as the runtime does.
func mapWriter(ctx context.Context) (int, error) {
	none, _ := ctx.Value(mapWriterKey{}).(map[string]int) // nil
	none["x"] = 1
	return 0, nil
}

type mapWriterKey struct{}

// The error of a callback that panicked is one line of bounded length, and says
// where: in the user's function, and not in what came between.
func TestPanicIsToldInOneLine(t *testing.T) {
	tests := []struct {
		name string
		f    func(context.Context) (int, error)
		want []string
	}{
		{"fault", mapWriter, []string{"callback panicked: assignment to entry in nil map (in certmgr.mapWriter calloutpanic_test.go:"}},
		{"long value", func(context.Context) (int, error) { panic(strings.Repeat("long\n", 1000)) },
			[]string{`callback panicked: long\nlong`, "... (in certmgr.TestPanicIsToldInOneLine.func1 calloutpanic_test.go"}},
		{"Goexit", func(context.Context) (int, error) { runtime.Goexit(); return 0, nil }, []string{"callback called runtime.Goexit"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := callOut(t.Context(), newCallouts("HostPolicy", 1), strings.Repeat("a\n", 500), tt.f)
			line := err.Error()
			if !errors.Is(err, errCalloutPanic) || len(line) > text.MaxError || strings.ContainsAny(line, "\n\t") {
				t.Errorf("%d bytes: %q", len(line), line)
			}
			for _, want := range tt.want {
				if !strings.Contains(line, want) {
					t.Errorf("%q\ndoes not say %q", line, want)
				}
			}
			if tt.name == "Goexit" && strings.Contains(line, "panicked") {
				t.Errorf("%q tells of a panic", line)
			}
		})
	}
}

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
