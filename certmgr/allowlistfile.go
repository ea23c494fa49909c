package certmgr

import (
	"context"
	"errors"

	"github.com/nostall/nostall/internal/hosts"
)

// OpenAllowlist returns a list that is kept in a file: one name or wildcard a
// line; "#" begins a comment, also after a name. If the file cannot be read, or any
// line is invalid, the error names each of those by its number and why, the first
// 100 of them if they are more, and no list is returned.
//
// The Managers that use the list look at the file every 2 seconds. When it has
// changed, and was the same twice in a row, it is read, and its names take the
// place of the whole list in one step, as by Replace (audit.AllowlistReloaded). A
// file that is missing, unreadable or in part invalid is refused whole, the list
// stays as it is, and audit.AllowlistRejected says which line is wrong. A file
// without any name is refused too, as one that was just cut short looks like that,
// unless a comment in it says "# empty". It is best to write a new file and rename
// it: one that is written in place for longer than that may be read half done.
//
// Add, Remove and Replace change the list and not the file: what they did lasts
// until the file is read again. A list that no Manager uses is read again by
// Reload only. The file must be a regular one, or a link to one, and not be larger
// than 256 MiB.
func OpenAllowlist(path string) (*Allowlist, error) {
	a := &Allowlist{list: hostList{file: hosts.NewFile(path)}}
	if err := a.Reload(); err != nil {
		return nil, err
	}
	return a, nil
}

// Reload reads the file of a list that OpenAllowlist made, now, whether or not it
// has changed and whether or not a Manager uses it. If the file is refused the list
// stays as it is, and the error is that of OpenAllowlist. Of two readings at the
// same time the one that began later holds. For a list without a file it is an
// error.
func (a *Allowlist) Reload() error {
	if a == nil || a.list.file == nil {
		return errors.New("certmgr: this Allowlist has no file to reload; OpenAllowlist makes one that has")
	}
	return a.list.reload(context.Background(), nil)
}
