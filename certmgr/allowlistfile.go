package certmgr

import (
	"context"
	"errors"

	"github.com/nostall/nostall/internal/hosts"
)

// OpenAllowlist returns a list from a file: one name or wildcard a line, in
// UTF-8; "#" begins a comment, also after a name. A line of several names,
// separated by spaces, is a group (see Allowlist.AddGroup). If the file cannot be read or
// any line is invalid, it returns no list, and an error that names each invalid
// line by its number with the reason, up to 100.
//
// The Managers that use the list look at the file every 2 seconds. When it has
// changed and then stayed the same for two looks, it is read, and its names
// replace the whole list in one step, as by Replace (audit.AllowlistReloaded).
// A file that is missing, unreadable or partly invalid is rejected as a whole:
// the list does not change, and audit.AllowlistRejected says which line is
// wrong. A file without any name is rejected too, since it may be truncated,
// unless it has the comment "# empty". To update a file, write a new one and
// rename it: a file that is slowly written in place may be read half done.
//
// Add, Remove and Replace change the list but not the file; their effect lasts
// until the file is read again. If no Manager uses the list, only Reload reads
// the file again. The file must be a regular file, or a link to one, of at most
// 256 MiB.
func OpenAllowlist(path string) (*Allowlist, error) {
	a := &Allowlist{list: hostList{file: hosts.NewFile(path)}}
	if err := a.Reload(); err != nil {
		return nil, err
	}
	return a, nil
}

// errNoFile: there is nothing to reload.
var errNoFile = errors.New("certmgr: this Allowlist has no file to reload; use OpenAllowlist")

// Reload reads the file of a list from OpenAllowlist now, even if it has not
// changed and no Manager uses it. If the file is rejected, the list does not
// change, and the error is that of OpenAllowlist. If calls overlap, the one
// that began last wins. For a list without a file it returns an error.
func (a *Allowlist) Reload() error {
	if a == nil || a.list.file == nil {
		return errNoFile
	}
	return a.list.reload(context.Background(), nil, "")
}
