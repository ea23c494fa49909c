package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// Log returns an audit hook that writes each event to l, at the event's level.
// If l is nil, it writes to slog.Default(), looked up for each event. The hook
// is safe for concurrent use.
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

// JSON returns an audit hook that writes each event to w as one line of JSON,
// in a single Write. See Event.MarshalJSON for the form. Several Managers may
// share the hook: its writes are serialised. If an event cannot be written, the
// event and the error of w go to slog.Default().
func JSON(w io.Writer) func(context.Context, Event) {
	turn := make(chan struct{}, 1) // filled by the goroutine that writes
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

// All returns an audit hook that calls the hooks in order and skips nil ones. A
// hook that panics does not keep the event from the others, but a slow hook
// delays them.
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
				if !returned { // a panic or a Goexit, which continues after this
					auditAll(ctx, e, hooks[i+1:])
				}
			}()
			hook(ctx, e)
			returned = true
		}()
	}
}
