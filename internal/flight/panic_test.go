package flight

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"

	"github.com/nostall/nostall/internal/text"
)

// mapWriter panics as the runtime does.
func mapWriter(ctx context.Context) (int, error) {
	none, _ := ctx.Value(mapWriterKey{}).(map[string]int) // nil
	none["x"] = 1
	return 0, nil
}

type mapWriterKey struct{}

// The error of a callback that panicked is one line of bounded length and names
// the user's function, not the frames in between.
func TestPanicIsToldInOneLine(t *testing.T) {
	tests := []struct {
		name string
		f    func(context.Context) (int, error)
		want []string
	}{
		{"fault", mapWriter, []string{"callback panicked: assignment to entry in nil map (in flight.mapWriter panic_test.go:"}},
		{"long value", func(context.Context) (int, error) { panic(strings.Repeat("long\n", 1000)) },
			[]string{`callback panicked: long\nlong`, "... (in flight.TestPanicIsToldInOneLine.func1 panic_test.go"}},
		{"Goexit", func(context.Context) (int, error) { runtime.Goexit(); return 0, nil }, []string{"callback called runtime.Goexit"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := CallOut(t.Context(), NewCallouts("HostPolicy", 1), strings.Repeat("a\n", 500), tt.f)
			line := err.Error()
			if !errors.Is(err, ErrPanic) || len(line) > text.MaxError || strings.ContainsAny(line, "\n\t") {
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
