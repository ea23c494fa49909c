package cache

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func mustLock(t *testing.T, d Dir, name string, ttl time.Duration) Lease {
	t.Helper()
	l, err := d.Lock(t.Context(), name, "test", ttl)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// The files of locks are no entries, and a lock that is free has no file of its
// own.
func TestFilesOfDirLocks(t *testing.T) {
	d := Dir(filepath.Join(t.TempDir(), "created"))
	l := mustLock(t, d, "example.com", time.Hour)
	lease, stripe := dirLocks(d).files("example.com")
	for _, path := range []string{lease, stripe} {
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v, want mode 0600", path, info, err)
		}
		name := filepath.Base(path)
		if !isOwn(name) {
			t.Errorf("%s is taken for an entry", name)
		}
		if err := d.Put(t.Context(), name, nil); err == nil {
			t.Errorf("Put(%q) succeeds", name)
		}
	}
	for key, err := range d.Keys(t.Context()) {
		t.Errorf("listed: %q, %v", key, err)
	}
	for _, name := range []string{".locks-~", ".locks-g~", ".locks-00~", ".lease-00~", "example.com", ".locks-0", ".put-~"} {
		if isOwn(name) {
			t.Errorf("%s is not taken for an entry", name)
		}
	}
	if err := l.Unlock(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := fileNames(t, d); locksRenamedFiles && len(got) > 0 {
		t.Errorf("after Unlock there are %q", got)
	}
}

func fileNames(t *testing.T, d Dir) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(string(d))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// A holder that was killed leaves its lease file.
func TestDirCleansEndedLeases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := Dir(t.TempDir())
		mustLock(t, d, "ended.example.com", time.Minute)
		mustLock(t, d, "lasts.example.com", 3*time.Hour)
		time.Sleep(tempAge)
		if err := d.Clean(t.Context()); err != nil || len(fileNames(t, d)) != 4 {
			t.Errorf("Clean: %v, leaves %q, want all four", err, fileNames(t, d))
		}
		time.Sleep(2 * time.Minute)
		if err := d.Clean(t.Context()); err != nil {
			t.Error(err)
		}
		ended, _ := dirLocks(d).files("ended.example.com")
		if got := fileNames(t, d); len(got) != 3 || slices.Contains(got, filepath.Base(ended)) {
			t.Errorf("Clean leaves %q", got)
		}
		if _, err := d.Lock(t.Context(), "lasts.example.com", "test", time.Hour); err == nil {
			t.Error("a lease of three hours has ended after one")
		}
	})
}

// A power failure leaves anything, and its holder is gone.
func TestDamagedLeaseIsOver(t *testing.T) {
	d := Dir(t.TempDir())
	for _, damaged := range []string{"", "\x00\x00\x00", `{"token":`, `[]`, `{"token":"x","end":"2099-01-01T00:00:00Z","ttl":9000000000000}`} {
		l := mustLock(t, d, "example.com", time.Hour)
		lease, stripe := dirLocks(d).files("example.com")
		for _, path := range []string{lease, stripe} {
			if err := os.WriteFile(path, []byte(damaged), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.Extend(t.Context(), time.Hour); !errors.Is(err, ErrLost) {
			t.Errorf("Extend of a lease whose file is %q: %v", damaged, err)
		}
		next := mustLock(t, d, "example.com", time.Hour)
		if next.Token() <= l.Token() {
			t.Errorf("after %q: the token %d follows %d", damaged, next.Token(), l.Token())
		}
		if err := next.Unlock(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// Somebody clears the directory while a process has a lock in it.
func TestDirThatIsRemovedHasNoLocks(t *testing.T) {
	d := Dir(filepath.Join(t.TempDir(), "dir"))
	l := mustLock(t, d, "example.com", time.Hour)
	if err := os.RemoveAll(string(d)); err != nil {
		t.Fatal(err)
	}
	if err := l.Extend(t.Context(), time.Hour); !errors.Is(err, ErrLost) {
		t.Errorf("Extend: %v", err)
	}
	next := mustLock(t, d, "example.com", time.Hour)
	if next.Token() <= l.Token() {
		t.Errorf("the token %d follows %d", next.Token(), l.Token())
	}
	if err := d.Put(Guard(t.Context(), l), "example.com", []byte("old")); !errors.Is(err, ErrLost) {
		t.Errorf("Put: %v", err)
	}
	if err := d.Put(Guard(t.Context(), next), "example.com", []byte("new")); err != nil {
		t.Error(err)
	}
}

// A stripe file is deleted while others have opened it and wait for its lock:
// what they get then excludes nobody.
func TestStripeFileThatWasDeletedIsNotLocked(t *testing.T) {
	path := filepath.Join(t.TempDir(), ".locks-0~")
	var inside atomic.Int32
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 150 {
				f, err := lockStripe(t.Context(), path)
				if err != nil {
					t.Error(err)
					return
				}
				if n := inside.Add(1); n > 1 {
					t.Errorf("%d have the lock", n)
				}
				runtime.Gosched()
				inside.Add(-1)
				_ = os.Remove(path) // not where open files cannot be removed
				f.Close()
			}
		})
	}
	all.Wait()
}

// The lease of another machine, on a network file system, and one of a program that
// does not lock lease files: whether the holder is alive cannot be seen here.
func TestLeaseOfAnotherHostLastsUntilItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, host := range []string{"", "another.example.com"} {
			d := Dir(t.TempDir())
			l := mustLock(t, d, "example.com", time.Minute).(*dirLease)
			path, _ := dirLocks(d).files("example.com")
			file, err := readLease(path)
			if err != nil {
				t.Fatal(err)
			}
			file.Host = host
			if err := rewriteLease(path, file); err != nil {
				t.Fatal(err)
			}
			l.hold.end()
			var held *HeldError
			if _, err := d.Lock(t.Context(), "example.com", "test", time.Minute); !errors.As(err, &held) {
				t.Errorf("Lock with a lease of the host %q: %v, want a HeldError", host, err)
			}
			time.Sleep(time.Minute)
			mustLock(t, d, "example.com", time.Minute)
		}
	})
}

func (h *hold) isOpen() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.file != nil
}

// A lease whose holder has forgotten it ends by itself, and leaves no file open.
func TestLeaseFileIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := Dir(t.TempDir())
		for what, end := range map[string]func(l *dirLease){
			"forgotten": func(*dirLease) { time.Sleep(time.Minute) },
			"unlocked":  func(l *dirLease) { l.Unlock(t.Context()) },
			"extended": func(l *dirLease) {
				l.Extend(t.Context(), 2*time.Minute)
				time.Sleep(time.Minute)
				if !l.hold.isOpen() && locksRenamedFiles {
					t.Error("the file of a lease that was extended is closed")
				}
				time.Sleep(time.Minute)
			},
			"lost": func(l *dirLease) {
				path, _ := dirLocks(d).files(l.name)
				os.Remove(path)
				l.Extend(t.Context(), time.Hour)
			},
		} {
			l := mustLock(t, d, "example.com", time.Minute).(*dirLease)
			end(l)
			synctest.Wait()
			if l.hold.isOpen() {
				t.Errorf("%s: the file is open", what)
			}
		}
	})
}

// Whoever cannot write the directory, such as for a full disk, does without locks.
func TestDirThatCannotBeWrittenHasNoLocks(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, d := range []Dir{Dir(file), Dir(filepath.Join(file, "dir"))} {
		if _, err := d.Lock(t.Context(), "example.com", "test", time.Minute); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("Lock in %s: %v", d, err)
		}
	}
}

// The clock of the machine is set back by a day while a holder that was killed
// has the lock.
func TestLeaseWhenTheClockIsSetBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := Dir(t.TempDir())
		mustLock(t, d, "example.com", 30*time.Second)
		path, _ := dirLocks(d).files("example.com")
		l, err := readLease(path)
		if err != nil {
			t.Fatal(err)
		}
		l.End = l.End.Add(24 * time.Hour)
		if err := rewriteLease(path, l); err != nil {
			t.Fatal(err)
		}
		_, err = d.Lock(t.Context(), "example.com", "test", time.Hour)
		var held *HeldError
		if !errors.As(err, &held) || held.Remaining != 30*time.Second {
			t.Fatalf("Lock: %v, want a HeldError for 30s", err)
		}
		time.Sleep(29 * time.Second)
		if _, err = d.Lock(t.Context(), "example.com", "test", time.Hour); !errors.As(err, &held) || held.Remaining != time.Second {
			t.Fatalf("Lock: %v, want a HeldError for 1s", err)
		}
		time.Sleep(time.Second)
		mustLock(t, d, "example.com", time.Hour)
	})
}

// A process that is stopped between two system calls keeps the lock of a stripe
// file.
func TestDirLockEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := Dir(t.TempDir())
		lease := mustLock(t, d, "example.com", time.Hour)
		_, stripe := dirLocks(d).files("example.com")
		f, err := lockStripe(t.Context(), stripe)
		if err != nil {
			t.Fatal(err)
		}
		const name = "example.com"
		for what, call := range map[string]func(ctx context.Context) error{
			"Lock":   func(ctx context.Context) error { _, err := d.Lock(ctx, name, "test", time.Hour); return err },
			"Extend": func(ctx context.Context) error { return lease.Extend(ctx, time.Hour) },
			"Unlock": lease.Unlock,
			"Put":    func(ctx context.Context) error { return d.Put(Guard(ctx, lease), name, nil) },
			"Delete": func(ctx context.Context) error { return d.Delete(Guard(ctx, lease), name) },
		} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			begun := time.Now()
			err := call(ctx)
			cancel()
			if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), stripe) {
				t.Errorf("%s: %v, want the end of the context and %s", what, err, stripe)
			}
			if took := time.Since(begun); took != time.Minute {
				t.Errorf("%s returns after %v, want a minute", what, took)
			}
		}
		// Without a lease nothing waits.
		if err := d.Put(t.Context(), name, []byte("value")); err != nil {
			t.Error(err)
		}
		f.Close()
		if err := lease.Unlock(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
