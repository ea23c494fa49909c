package pemfiles_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr/pemfiles"
)

// newCert returns a certificate with a new key.
func newCert(t *testing.T, names ...string) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: names, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// newDir is a directory in which only the process can write.
func newDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	return dir
}

// files returns the names in a directory.
func files(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// The file is what servers read: key and certificate that fit, the key first.
func TestFile(t *testing.T) {
	path := newDir(t)
	d := &pemfiles.Dir{Path: path}
	for range 2 { // the second one replaces the first
		cert := newCert(t, "mail.example.com")
		if err := d.Write(t.Context(), cert); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(path, "mail.example.com.pem")
		got, err := tls.LoadX509KeyPair(file, file)
		if err != nil || !bytes.Equal(got.Certificate[0], cert.Certificate[0]) {
			t.Fatalf("the file has another certificate, or %v", err)
		}
		if data, _ := os.ReadFile(file); !bytes.HasPrefix(data, []byte("-----BEGIN PRIVATE KEY-----\n")) {
			t.Error("the key does not come first")
		}
	}
	if names := files(t, path); len(names) != 1 {
		t.Errorf("there are %q", names)
	}
}

func TestModes(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no modes")
	}
	for mode, want := range map[fs.FileMode]fs.FileMode{0: 0o600, 0o600: 0o600, 0o640: 0o640, 0o660: 0o660, 0o440: 0o440,
		0o644: 0, 0o604: 0, 0o700: 0, 0o666: 0, fs.ModeSetuid | 0o600: 0, fs.ModeDir: 0} {
		path := newDir(t)
		err := (&pemfiles.Dir{Path: path, Mode: mode}).Write(t.Context(), newCert(t, "a.example.com"))
		info, statErr := os.Stat(filepath.Join(path, "a.example.com.pem"))
		switch {
		case want == 0 && (err == nil || !errors.Is(statErr, fs.ErrNotExist) || !strings.Contains(err.Error(), "Dir.Mode")):
			t.Errorf("%#o: %v", mode, err)
		case want != 0 && (err != nil || info.Mode() != want):
			t.Errorf("%#o: %v, %v", mode, err, info)
		}
	}
}

// A file that had another mode gets the right one, without a moment in which the
// new key has the old mode: it is another file.
func TestModeOfAnExistingFile(t *testing.T) {
	path := newDir(t)
	cert := newCert(t, "a.example.com")
	file := filepath.Join(path, "a.example.com.pem")
	if err := (&pemfiles.Dir{Path: path}).Write(t.Context(), cert); err != nil {
		t.Fatal(err)
	}
	before, _ := os.Stat(file)
	if err := (&pemfiles.Dir{Path: path}).Write(t.Context(), cert); err != nil {
		t.Fatal(err)
	}
	if after, _ := os.Stat(file); !os.SameFile(before, after) {
		t.Error("a file that is right was replaced")
	}
	if runtime.GOOS == "windows" {
		return
	}
	os.Chmod(file, 0o644)
	if err := (&pemfiles.Dir{Path: path}).Write(t.Context(), cert); err != nil {
		t.Fatal(err)
	}
	if after, _ := os.Stat(file); os.SameFile(before, after) || after.Mode() != 0o600 {
		t.Errorf("the file has mode %v", after.Mode())
	}
}

func TestOwner(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no such owners")
	}
	write := func(owner, group string) error {
		return (&pemfiles.Dir{Path: newDir(t), Owner: owner, Group: group}).Write(t.Context(), newCert(t, "a.example.com"))
	}
	if err := write(fmt.Sprint(os.Getuid()), fmt.Sprint(os.Getgid())); err != nil {
		t.Errorf("own numbers: %v", err)
	}
	if err := write("no-such-user", ""); err == nil || !strings.Contains(err.Error(), "Dir.Owner") {
		t.Errorf("an unknown owner: %v", err)
	}
	if err := write("", "no-such-group"); err == nil || !strings.Contains(err.Error(), "Dir.Group") {
		t.Errorf("an unknown group: %v", err)
	}
	if os.Getuid() != 0 {
		if err := write("0", "0"); !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "Owner and Group") {
			t.Errorf("root: %v", err)
		}
	} else if err := write("daemon", "daemon"); err != nil {
		t.Errorf("a daemon: %v", err)
	}
}

// Names come from certificates. None leads out of the directory.
func TestNames(t *testing.T) {
	long := strings.Repeat("a", 60)
	for name, want := range map[string]string{
		"Mail.Example.COM":          "mail.example.com.pem",
		"*.example.com":             "_.example.com.pem",
		"xn--e1afmkfd.example":      "xn--e1afmkfd.example.pem",
		"../a.example.com":          "",
		"a/b.example.com":           "",
		`a\b.example.com`:           "",
		".example.com":              "",
		"-rf.example.com":           "",
		"a.example.com\x00":         "",
		"a b.example.com":           "",
		strings.Repeat(long+".", 5): "",
	} {
		path := newDir(t)
		cert := newCert(t, "a.example.com")
		leaf := *cert.Leaf
		leaf.DNSNames = []string{name, "other.example.com"}
		cert.Leaf = &leaf
		err := (&pemfiles.Dir{Path: path}).Write(t.Context(), cert)
		got := strings.Join(files(t, path), " ")
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", name, got, err)
		}
	}
	path := newDir(t)
	d := &pemfiles.Dir{Path: path, Name: func(*x509.Certificate) string { return "mail" }}
	if err := d.Write(t.Context(), newCert(t, "a.example.com")); err != nil || files(t, path)[0] != "mail.pem" {
		t.Errorf("with Name: %q, %v", files(t, path), err)
	}
	if err := (&pemfiles.Dir{Path: path}).Write(t.Context(), newCert(t)); err == nil {
		t.Error("a certificate without a name has a file")
	}
}

// What stands in the way is an error that names the file, the host and what to
// do, and changes nothing.
func TestObstacles(t *testing.T) {
	outside := filepath.Join(newDir(t), "outside")
	if err := os.WriteFile(outside, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		prepare func(t *testing.T, dir string) (path string)
		want    string
	}{
		"missing": {func(_ *testing.T, dir string) string { return filepath.Join(dir, "none") }, "create the directory"},
		"a file":  {func(*testing.T, string) string { return outside }, "outside"},
		"link": {func(t *testing.T, dir string) string {
			if err := os.Symlink(outside, filepath.Join(dir, "a.example.com.pem")); err != nil {
				t.Skip(err)
			}
			return dir
		}, "not a file"},
		"directory in its place": {func(_ *testing.T, dir string) string {
			os.Mkdir(filepath.Join(dir, "a.example.com.pem"), 0o700)
			return dir
		}, "not a file"},
		"everybody's": {func(t *testing.T, dir string) string {
			if runtime.GOOS == "windows" {
				t.Skip("Windows has no modes")
			}
			os.Chmod(dir, 0o777)
			return dir
		}, "chmod o-w"},
		"read-only": {func(t *testing.T, dir string) string {
			if runtime.GOOS == "windows" || os.Getuid() == 0 {
				t.Skip("nothing is read-only for this user")
			}
			os.Chmod(dir, 0o550)
			return dir
		}, "let this process write"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := newDir(t)
			path := test.prepare(t, dir)
			before := fmt.Sprint(files(t, dir))
			reloaded := false
			d := &pemfiles.Dir{Path: path, Reload: func(context.Context, string) error { reloaded = true; return nil }}
			err := d.Write(t.Context(), newCert(t, "a.example.com"))
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), "a.example.com.pem") {
				t.Errorf("got %v", err)
			}
			if after := fmt.Sprint(files(t, dir)); after != before || reloaded {
				t.Errorf("the directory had %s and has %s, reloaded: %v", before, after, reloaded)
			}
			if data, _ := os.ReadFile(outside); string(data) != "mine" {
				t.Errorf("the file outside has %q", data)
			}
		})
	}
}

// A killed process leaves a temporary file. It is removed when it is too old to
// be another process's, and nothing else is.
func TestTemporaryFilesOfKilledProcesses(t *testing.T) {
	path := newDir(t)
	old := time.Now().Add(-time.Hour)
	for _, name := range []string{".pemfiles-old", ".pemfiles-new", ".other", "b.example.com.pem"} {
		file := filepath.Join(path, name)
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if name != ".pemfiles-new" {
			os.Chtimes(file, old, old)
		}
	}
	if err := (&pemfiles.Dir{Path: path}).Write(t.Context(), newCert(t, "a.example.com")); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(files(t, path), " "); got != ".other .pemfiles-new a.example.com.pem b.example.com.pem" {
		t.Errorf("there are %s", got)
	}
}

// Readers never see half a file, or a key and a certificate that do not fit.
func TestReadersSeeWholeFiles(t *testing.T) {
	path := newDir(t)
	file := filepath.Join(path, "a.example.com.pem")
	certs := []*tls.Certificate{newCert(t, "a.example.com"), newCert(t, "a.example.com")}
	d := &pemfiles.Dir{Path: path}
	if err := d.Write(t.Context(), certs[0]); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	for w := range 2 { // as two processes
		wg.Go(func() {
			d := &pemfiles.Dir{Path: path}
			for i := range 50 {
				if err := d.Write(t.Context(), certs[(i+w)%2]); err != nil {
					t.Error(err)
				}
			}
		})
	}
	go func() { wg.Wait(); close(done) }()
	for {
		data, err := os.ReadFile(file)
		if err == nil {
			_, err = tls.X509KeyPair(data, data)
		}
		if err != nil {
			t.Fatal(err)
		}
		select {
		case <-done:
			return
		default:
		}
	}
}

// Reload is called for a change, once more after it failed, and at the first
// call in a process.
func TestReload(t *testing.T) {
	path := newDir(t)
	cert := newCert(t, "a.example.com")
	var calls []string
	var fail error
	d := &pemfiles.Dir{Path: path, Reload: func(_ context.Context, host string) error {
		calls = append(calls, host)
		return fail
	}}
	write := func(what string, cert *tls.Certificate, want int) {
		t.Helper()
		err := d.Write(t.Context(), cert)
		if !errors.Is(err, fail) || len(calls) != want {
			t.Errorf("%s: %d calls of Reload, want %d; %v", what, len(calls), want, err)
		}
		calls = nil
	}
	write("new", cert, 1)
	write("unchanged", cert, 0)
	renewed := newCert(t, "a.example.com")
	fail = errors.New("exit status 1")
	write("renewed, and the server cannot be told", renewed, 1)
	write("again", renewed, 1)
	fail = nil
	write("at last", renewed, 1)
	write("unchanged", renewed, 0)
	d = &pemfiles.Dir{Path: path, Reload: d.Reload}
	write("after a restart", renewed, 1)
	write("unchanged", renewed, 0)
}

// Calls of Reload do not overlap, and one counts for all files that were written
// before it began. A caller waits for its turn as long as its context lasts.
func TestReloadsAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls, running := 0, 0
		d := &pemfiles.Dir{Path: newDir(t), Reload: func(ctx context.Context, _ string) error {
			calls++
			if running++; running > 1 {
				t.Error("calls overlap")
			}
			defer func() { running-- }()
			time.Sleep(time.Second)
			return nil
		}}
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				if err := d.Write(t.Context(), newCert(t, fmt.Sprintf("h%d.example.com", i))); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		wg.Wait()
		if calls != 2 {
			t.Errorf("%d calls for 8 files", calls)
		}
		go d.Write(t.Context(), newCert(t, "h1.example.com"))
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if err := d.Write(ctx, newCert(t, "h2.example.com")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if err := d.Write(t.Context(), newCert(t, "h3.example.com")); err != nil {
			t.Error(err)
		}
	})
}
