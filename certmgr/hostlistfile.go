package certmgr

import (
	"context"
	"errors"

	"github.com/nostall/nostall/internal/hosts"
)

// reload reads the file and replaces the list by it. If stable is not nil, it
// does so only if the file is still in that state. actor is who had it done, or
// empty.
func (l *hostList) reload(ctx context.Context, stable *hosts.FileState, actor string) error {
	f := l.file
	l.changing.Lock()
	r := f.Begin(stable)
	l.changing.Unlock()

	r.Read(ctx)
	if r.Err != nil {
		if ctx.Err() == nil && !errors.Is(r.Err, hosts.ErrChanging) {
			l.reject(r)
		}
		return listError(r.Err)
	}
	set := hosts.Collect(r.Entries)
	l.changing.Lock()
	defer l.changing.Unlock()
	rejected := f.IsRejected()
	if !f.Accept(r) {
		return nil
	}
	c := change{reason: "read from " + hosts.FileName(f.Path()), actor: actor, count: set.Len()}
	c.added, c.removed = hosts.Difference(l.names.Load(), set)
	regrouped := hosts.Regrouped(l.names.Load(), set)
	c.reloaded = rejected || actor != "" || len(c.added)+len(c.removed)+len(regrouped) > 0
	l.publish(set, c)
	return nil
}

// reject notifies the watchers of a bad reading, once for each state of the
// file.
func (l *hostList) reject(r *hosts.Reading) {
	l.changing.Lock()
	defer l.changing.Unlock()
	if l.file.Reject(r) {
		l.publish(nil, change{rejected: listError(r.Err)})
	}
}

// hangs reports that looking at the file does not return.
func (l *hostList) hangs(err error) {
	l.changing.Lock()
	r := l.file.Failed(err)
	l.changing.Unlock()
	l.reject(r)
}

// poll reads the file if it has changed and is probably complete.
func (l *hostList) poll(ctx context.Context) {
	state := hosts.LookAt(l.file.Path())
	l.changing.Lock()
	due := l.file.IsDue(state)
	l.changing.Unlock()
	if due {
		l.reload(ctx, &state, "") // the error is an event
	}
}

// invalidList is an error of package hosts about a list or its file, with the
// text and sentinel of this package.
type invalidList struct{ cause error }

// listError returns err as an *invalidList, or nil.
func listError(err error) error {
	if err == nil {
		return nil
	}
	return &invalidList{err}
}

func (e *invalidList) Error() string { return "certmgr: " + e.cause.Error() }

func (e *invalidList) Unwrap() error { return e.cause }

// Is reports whether target is ErrBadServerName and an entry is invalid.
func (e *invalidList) Is(target error) bool {
	var entry *hosts.EntryError
	return target == ErrBadServerName && errors.As(e.cause, &entry)
}
