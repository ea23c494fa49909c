package certmgr

import (
	"context"
	"time"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/cache"
	"github.com/nostall/nostall/internal/flight"
	"github.com/nostall/nostall/internal/text"
)

// cleaner is what a Cache may implement: Clean removes what killed processes
// left behind, such as temporary files. DirCache does.
type cleaner interface {
	Clean(context.Context) error
}

// checker is what a Cache may implement: Check returns an error that says what
// strangers can read or write in it. DirCache does.
type checker interface {
	Check(context.Context) error
}

// cleanTimeout is the time-out of a Cache's Clean, and of its Check. It reads a directory
// of which each file may be an entry.
const cleanTimeout = time.Minute

// maxCheckText is the longest text of a warning about the Cache, in bytes.
const maxCheckText = 1000

// checkCache has the Cache say who else can read or write it, once for a Manager,
// in the background. It is served from all the same: it always was.
func (e *engine) checkCache() {
	c, ok := cache.As[checker](e.settings.cache)
	if !ok {
		return
	}
	calls := e.callout("Cache.Check", 1)
	e.tasks.Go(func(ctx context.Context) {
		in, cancel := context.WithTimeout(ctx, cleanTimeout)
		defer cancel()
		_, err := flight.CallOut(in, calls, "", func(ctx context.Context) (struct{}, error) { return struct{}{}, c.Check(ctx) })
		if err != nil && in.Err() == nil {
			e.warnings.warn("Manager.Cache: " + text.OneLine(text.Of(err), maxCheckText))
		}
	})
}

// cleanCache has the Cache remove what killed processes left behind, once for a
// Manager, in the background. Nothing waits for it.
func (e *engine) cleanCache() {
	c, ok := cache.As[cleaner](e.settings.cache)
	if !ok {
		return
	}
	calls := e.callout("Cache.Clean", 1)
	e.tasks.Go(func(ctx context.Context) {
		in, cancel := context.WithTimeout(ctx, cleanTimeout)
		defer cancel()
		_, err := flight.CallOut(in, calls, "", func(ctx context.Context) (struct{}, error) { return struct{}{}, c.Clean(ctx) })
		if err == nil || ctx.Err() != nil {
			return
		}
		err = &refusal{kind: ErrCache, text: "removing what killed processes left in it; certificates are served and issued without that", cause: err}
		e.audit.Emit(audit.Event{Kind: audit.CacheWriteFailed, Err: err})
	})
}
