package pemfiles

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// tempPrefix is how the names of temporary files begin. A host's file never
	// does, and servers that read all files of a directory skip hidden ones.
	tempPrefix = ".pemfiles-"

	// tempAge is the age from which a temporary file is what a killed process
	// left: writing one takes milliseconds.
	tempAge = 10 * time.Minute

	// maxFile is how much of an existing file is read, to compare it.
	maxFile = 1 << 20

	defaultMode fs.FileMode = 0o600
	allowedMode fs.FileMode = 0o660
)

// encode returns the content of a certificate's file.
func encode(cert *tls.Certificate) ([]byte, error) {
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		return nil, fmt.Errorf("the private key cannot be written to a file: %w", err)
	}
	var b bytes.Buffer
	pem.Encode(&b, &pem.Block{Type: "PRIVATE KEY", Bytes: key})
	for _, der := range cert.Certificate {
		pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: der})
	}
	return b.Bytes(), nil
}

// write replaces a file, unless it has the same content and mode. All that it
// opens is in the directory, wherever links in there lead.
func (d *Dir) write(ctx context.Context, name string, data []byte) (changed bool, err error) {
	mode := d.Mode
	if mode == 0 {
		mode = defaultMode
	}
	if mode&^allowedMode != 0 {
		return false, fmt.Errorf("the mode %#o would show the private key to others than owner and group, or is no file's; set Dir.Mode to 0600, 0640 or 0660", uint32(mode))
	}
	uid, gid, err := d.ids()
	if err != nil {
		return false, err
	}
	root, err := os.OpenRoot(d.Path)
	if err != nil {
		return false, err
	}
	defer root.Close()
	if err := checkDir(root); err != nil {
		return false, err
	}
	d.cleaned.Do(func() { clean(root) })
	same, err := isSame(root, name, mode, data)
	if err != nil || same {
		return false, err
	}
	if err := ctx.Err(); err != nil {
		return false, err
	}
	temp := tempPrefix + rand.Text()
	if err := writeTemp(root, temp, data, func(f *os.File) error { return setRights(f, mode, uid, gid) }); err != nil {
		return false, errors.Join(err, ignoreMissing(root.Remove(temp)))
	}
	if err := root.Rename(temp, name); err != nil {
		return false, errors.Join(err, ignoreMissing(root.Remove(temp)))
	}
	return true, syncDir(root)
}

// checkDir refuses a directory in which anyone could put files in the place of
// ours.
func checkDir(root *os.Root) error {
	info, err := root.Stat(".")
	if err == nil && runtime.GOOS != "windows" && info.Mode().Perm()&0o002 != 0 {
		err = fmt.Errorf("everybody can write to the directory (mode %#o): take that right away, for example with chmod o-w", uint32(info.Mode().Perm()))
	}
	return err
}

// isSame reports whether a file has this content and mode. It is an error if
// there is something else than a file.
func isSame(root *os.Root, name string, mode fs.FileMode, data []byte) (bool, error) {
	info, err := root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if !info.Mode().IsRegular() {
		return false, fmt.Errorf("there is something that is not a file (mode %s): remove it", info.Mode())
	}
	if info.Size() != int64(len(data)) || runtime.GOOS != "windows" && info.Mode().Perm() != mode {
		return false, nil
	}
	f, err := root.Open(name)
	if err != nil {
		return false, nil // it can be replaced all the same
	}
	defer f.Close()
	have, err := io.ReadAll(io.LimitReader(f, maxFile))
	return err == nil && bytes.Equal(have, data), nil
}

// writeTemp writes a new file that only its owner can read, gives it its rights
// when the content is complete, and flushes it to disk.
func writeTemp(root *os.Root, temp string, data []byte, rights func(*os.File) error) error {
	f, err := root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = rights(f)
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// setRights sets owner and mode: the owner first, so that the group's rights are
// never another group's.
func setRights(f *os.File, mode fs.FileMode, uid, gid int) error {
	if uid >= 0 || gid >= 0 {
		if err := f.Chown(uid, gid); err != nil {
			return err
		}
	}
	return f.Chmod(mode)
}

// ids returns the numbers of Owner and Group, or -1.
func (d *Dir) ids() (uid, gid int, err error) {
	if d.Owner == "" && d.Group == "" {
		return -1, -1, nil
	}
	if runtime.GOOS == "windows" {
		return 0, 0, errors.New("there are no such owners on Windows; leave Dir.Owner and Dir.Group empty, and set the rights of the directory")
	}
	uid, err = idOf(d.Owner, func(name string) (string, error) {
		u, err := user.Lookup(name)
		if err != nil {
			return "", fmt.Errorf("Dir.Owner: %w", err)
		}
		return u.Uid, nil
	})
	if err != nil {
		return 0, 0, err
	}
	gid, err = idOf(d.Group, func(name string) (string, error) {
		g, err := user.LookupGroup(name)
		if err != nil {
			return "", fmt.Errorf("Dir.Group: %w", err)
		}
		return g.Gid, nil
	})
	return uid, gid, err
}

// idOf returns a number, or looks a name up.
func idOf(name string, lookUp func(string) (string, error)) (int, error) {
	if name == "" {
		return -1, nil
	}
	if id, err := strconv.ParseUint(name, 10, 31); err == nil {
		return int(id), nil
	}
	id, err := lookUp(name)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(id)
}

// clean removes temporary files that killed processes left.
func clean(root *os.Root) {
	dir, err := root.Open(".")
	if err != nil {
		return
	}
	defer dir.Close()
	for {
		entries, err := dir.ReadDir(100)
		for _, e := range entries {
			info, err := e.Info()
			if err == nil && strings.HasPrefix(e.Name(), tempPrefix) && info.Mode().IsRegular() && time.Since(info.ModTime()) > tempAge {
				root.Remove(e.Name())
			}
		}
		if err != nil || len(entries) == 0 {
			return
		}
	}
}

// syncDir flushes the directory, so that a rename survives a power failure.
func syncDir(root *os.Root) error {
	if runtime.GOOS == "windows" {
		return nil // has no such call
	}
	dir, err := root.Open(".")
	if err != nil {
		return nil // it can be written but not read, which is no failure
	}
	defer dir.Close()
	if err := dir.Sync(); !errors.Is(err, syscall.EINVAL) && !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	return nil // a file system without that
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
