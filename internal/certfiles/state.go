package certfiles

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nostall/nostall/internal/bundle"
)

// maxFiles is how many files are read in all: pairs for thousands of names.
const maxFiles = 10_000

// extensions are those of the files in a folder that are read.
func extensions() []string { return []string{".pem", ".crt", ".cer", ".cert", ".key"} }

// fileState identifies a version of a file. It differs after the file was
// replaced or written. Links are followed, so it differs too after a link on
// the way leads elsewhere, as in the folder of a Kubernetes secret.
type fileState struct {
	path string
	info os.FileInfo // nil if the file could not be looked at
	err  error       // why
}

func lookAt(path string) fileState {
	info, err := os.Stat(path)
	if err != nil {
		return fileState{path: path, err: err}
	}
	return fileState{path: path, info: info}
}

func (s fileState) same(t fileState) bool {
	if s.info == nil || t.info == nil {
		return s.path == t.path && s.info == nil && t.info == nil
	}
	return s.path == t.path && os.SameFile(s.info, t.info) && s.info.Size() == t.info.Size() &&
		s.info.ModTime().Equal(t.info.ModTime()) && s.info.Mode() == t.info.Mode()
}

func sameStates(a, b []fileState) bool { return slices.EqualFunc(a, b, fileState.same) }

// group is files of which one may hold the key for another: those of a folder,
// or those that were named one by one.
type group struct {
	folder string // empty for files that were named one by one
	files  []fileState
}

// groupsOf looks at paths. A folder that cannot be read is an error, so that
// one which is away for a moment does not count as empty. last has the folders
// of before.
func groupsOf(paths []string, last map[string]reading) ([]group, error) {
	var groups []group
	var named group
	for _, path := range paths {
		s := lookAt(path)
		if s.info == nil || !s.info.IsDir() {
			if _, was := last[path]; was {
				return nil, fmt.Errorf("%s is no longer a folder that can be read: %w", path, cmp.Or(s.err, fs.ErrInvalid))
			}
			named.files = append(named.files, s)
			continue
		}
		below, err := folderGroups(path)
		if err != nil {
			return nil, err
		}
		groups = append(groups, below...)
	}
	if len(named.files) > 0 {
		groups = append(groups, named)
	}
	n := 0
	for _, g := range groups {
		n += len(g.files)
	}
	if n > maxFiles {
		return nil, fmt.Errorf("%d files of certificates and keys are more than %d", n, maxFiles)
	}
	return groups, nil
}

// folderGroups returns the group of a folder, and that of each folder in it.
func folderGroups(folder string) ([]group, error) {
	here, folders, err := folderGroup(folder)
	if err != nil {
		return nil, err
	}
	groups := []group{here}
	for _, path := range folders {
		below, _, err := folderGroup(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it was removed a moment ago
		}
		if err != nil {
			return nil, err
		}
		groups = append(groups, below)
	}
	return groups, nil
}

// folderGroup looks at the files in a folder, and returns the folders in it.
// Hidden entries are left out: the data of a Kubernetes secret is in hidden
// folders, to which its files are links.
func folderGroup(folder string) (g group, folders []string, err error) {
	entries, err := os.ReadDir(folder) // sorted
	if err != nil {
		return group{}, nil, err
	}
	g.folder = folder
	for _, e := range entries {
		name := e.Name()
		if strings.HasPrefix(name, ".") {
			continue
		}
		s := lookAt(filepath.Join(folder, name))
		switch {
		case s.info != nil && s.info.IsDir():
			folders = append(folders, s.path)
		case slices.Contains(extensions(), strings.ToLower(filepath.Ext(name))):
			g.files = append(g.files, s)
		}
	}
	return g, folders, nil
}

// lookAgain returns the present state of the group's files.
func (g group) lookAgain() []fileState {
	var states []fileState
	for _, s := range g.files {
		states = append(states, lookAt(s.path))
	}
	return states
}

// read returns the content of a file. One that is not regular is not opened: a
// FIFO would block until it has a writer.
func (s fileState) read() ([]byte, error) {
	switch {
	case s.info == nil:
		return nil, s.err
	case !s.info.Mode().IsRegular():
		return nil, fmt.Errorf("it is not a regular file (its mode is %v)", s.info.Mode())
	case s.info.Size() > bundle.MaxSize:
		return nil, fmt.Errorf("it has %d bytes, more than %d", s.info.Size(), bundle.MaxSize)
	}
	file, err := os.Open(s.path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, bundle.MaxSize+1))
}
