package certmgr

import (
	"context"
	"errors"

	"github.com/nostall/nostall/internal/hosts"
)

// AllowlistFile returns a list that is kept in a file: one name or wildcard a
// line; "#" begins a comment, also after a name. If the file cannot be read, or any
// line is invalid, the error names each of those by its number and why, the first
// 100 of them if they are more, and no list is returned.
//
// The Managers that use the list look at the file every 2 seconds. When it has
// changed, and was the same twice in a row, it is read, and its names take the
// place of the whole list in one step, as by Replace (EventAllowlistReloaded). A
// file that is missing, unreadable or in part invalid is refused whole, the list
// stays as it is, and EventAllowlistRejected says which line is wrong. A file
// without any name is refused too, as one that was just cut short looks like that,
// unless a comment in it says "# empty". It is best to write a new file and rename
// it: one that is written in place for longer than that may be read half done.
//
// Add, Remove and Replace change the list and not the file: what they did lasts
// until the file is read again. A list that no Manager uses is read again by
// Reload only. The file must be a regular one, or a link to one, and not be larger
// than 256 MiB.
func AllowlistFile(path string) (*Allowlist, error) {
	a := &Allowlist{file: hosts.NewFile(path)}
	if err := a.Reload(); err != nil {
		return nil, err
	}
	return a, nil
}

// Reload reads the file of a list that AllowlistFile made, now, whether or not it
// has changed and whether or not a Manager uses it. If the file is refused the list
// stays as it is, and the error is that of AllowlistFile. Of two readings at the
// same time the one that began later holds. For a list without a file it is an
// error.
func (a *Allowlist) Reload() error {
	if a == nil || a.file == nil {
		return errors.New("certmgr: this Allowlist has no file to reload; AllowlistFile makes one that has")
	}
	return a.reload(context.Background(), nil)
}

// reload reads the file and takes it over. If a state is given, in which the file
// has been for a while, only if it is that.
func (a *Allowlist) reload(ctx context.Context, stable *hosts.FileState) error {
	f := a.file
	a.changing.Lock()
	r := f.Begin(stable)
	a.changing.Unlock()

	r.Read(ctx)
	if r.Err != nil {
		if ctx.Err() == nil && !errors.Is(r.Err, hosts.ErrChanging) {
			a.reject(r)
		}
		return listError(r.Err)
	}
	set := hosts.Collect(r.Entries)
	a.changing.Lock()
	defer a.changing.Unlock()
	rejected := f.IsRejected()
	if !f.Accept(r) {
		return nil
	}
	c := change{reason: "read from " + hosts.FileName(f.Path()), count: set.Len()}
	c.added, c.removed = hosts.Difference(a.names.Load(), set)
	c.reloaded = rejected || len(c.added)+len(c.removed) > 0
	a.publish(set, c)
	return nil
}

// reject tells the watchers of a bad reading, once for each state of the file.
func (a *Allowlist) reject(r *hosts.Reading) {
	a.changing.Lock()
	defer a.changing.Unlock()
	if a.file.Reject(r) {
		a.publish(nil, change{rejected: listError(r.Err)})
	}
}

// hangs is told that a look at the file does not come back.
func (a *Allowlist) hangs(err error) {
	a.changing.Lock()
	r := a.file.Failed(err)
	a.changing.Unlock()
	a.reject(r)
}

// poll reads the file if it has changed and is likely to be complete.
func (a *Allowlist) poll(ctx context.Context) {
	state := hosts.LookAt(a.file.Path())
	a.changing.Lock()
	due := a.file.IsDue(state)
	a.changing.Unlock()
	if due {
		a.reload(ctx, &state) // the error is an event
	}
}

// invalidList is what package hosts has against a list or its file, as users of this
// package see it.
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

// Is reports whether target is ErrBadServerName and an entry is one.
func (e *invalidList) Is(target error) bool {
	var entry *hosts.EntryError
	return target == ErrBadServerName && errors.As(e.cause, &entry)
}
