package cache

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// otherName returns the name of the file that the file system takes for the one at
// path, if that name differs by case, and else "". Only file systems that do not
// tell upper from lower case have such files, and only there it reads the
// directory.
func otherName(path string) (string, error) {
	dir, key := filepath.Split(path)
	swapped := swapCase(key)
	info, err := os.Lstat(path)
	if err != nil || swapped == key {
		return "", nil // no file, or none that can be told of
	}
	other, err := os.Lstat(filepath.Join(dir, swapped))
	if err != nil || !os.SameFile(info, other) {
		return "", nil
	}
	f, err := os.Open(filepath.Join(dir, "."))
	if err != nil {
		return "", err
	}
	defer f.Close()
	return nameIn(f, key)
}

// nameIn returns the name in a directory that differs from key by case alone, or
// "" if there is key itself.
func nameIn(dir fs.ReadDirFile, key string) (string, error) {
	found := ""
	for {
		entries, err := dir.ReadDir(cleanBatch)
		for _, e := range entries {
			if e.Name() == key {
				return "", nil
			}
			if strings.EqualFold(e.Name(), key) {
				found = e.Name()
			}
		}
		if errors.Is(err, io.EOF) {
			return found, nil
		}
		if err != nil {
			return "", err
		}
	}
}

// errOtherCase is about an entry that the file system takes for another one.
func errOtherCase(other string) error {
	return fmt.Errorf("the file system does not tell upper from lower case, and has the entry %q: "+
		"delete that if it is no longer needed, or use another file system", other)
}

// swapCase returns a key in which each letter has the other case.
func swapCase(key string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z':
			return r - 'a' + 'A'
		case 'A' <= r && r <= 'Z':
			return r - 'A' + 'a'
		}
		return r
	}, key)
}

// hasUpper reports whether a key has an upper-case letter. Of two that differ by
// case at least one has.
func hasUpper(key string) bool { return strings.ToLower(key) != key }
