package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// Log returns an audit hook that writes each event to l, or to
// slog.Default() as it is at that time if l is nil: failures as warnings or
// errors, everything else as information. It is safe for concurrent use.
func Log(l *slog.Logger) func(context.Context, Event) {
	return func(ctx context.Context, e Event) {
		l := l
		if l == nil {
			l = slog.Default()
		}
		attrs := append([]slog.Attr{slog.Uint64("seq", e.Seq)}, e.attrs()...)
		l.LogAttrs(ctx, e.Level(), "certmgr: "+strings.ReplaceAll(string(e.Kind), "_", " "), attrs...)
	}
}

// JSON returns an audit hook that writes each event to w as one line of
// JSON, by a single Write; see Event.MarshalJSON for the form. Several Managers
// may share it: writes follow each other. An event that cannot be written goes
// to slog.Default(), with the error of w.
func JSON(w io.Writer) func(context.Context, Event) {
	turn := make(chan struct{}, 1) // whoever has put a value in writes
	return func(ctx context.Context, e Event) {
		line, err := json.Marshal(e)
		if err == nil {
			select {
			case turn <- struct{}{}:
				defer func() { <-turn }() // also if w panics
				_, err = w.Write(append(line, '\n'))
			case <-ctx.Done():
				err = fmt.Errorf("another write has not returned: %w", context.Cause(ctx))
			}
		}
		if err != nil {
			slog.Default().ErrorContext(ctx, "certmgr: audit event not written", "error", fmt.Errorf("JSON: %w", err), "event", e)
		}
	}
}

// All returns an audit hook that calls each of hooks, in this order; those
// that are nil are left out. One that panics keeps no event from the others, but
// one that is slow delays them.
func All(hooks ...func(context.Context, Event)) func(context.Context, Event) {
	return func(ctx context.Context, e Event) { auditAll(ctx, e, hooks) }
}

func auditAll(ctx context.Context, e Event, hooks []func(context.Context, Event)) {
	for i, hook := range hooks {
		if hook == nil {
			continue
		}
		func() {
			returned := false
			defer func() {
				if !returned { // a panic or a Goexit, which goes on after this
					auditAll(ctx, e, hooks[i+1:])
				}
			}()
			hook(ctx, e)
			returned = true
		}()
	}
}
