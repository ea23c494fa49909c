package cache

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestDirRefusesKeysThatAreNotFileNames(t *testing.T) {
	parent := t.TempDir()
	d := Dir(filepath.Join(parent, "certs"))
	secret := filepath.Join(parent, "secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.Put(t.Context(), "example.com", []byte("value")); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{
		"", ".", "..", "/", "../secret", "a/../../secret", "/secret", secret, "a/b", "a/", "./example.com",
		"example.com\n", "example.com\x00",
	} {
		data, err := d.Get(t.Context(), key)
		if err == nil || errors.Is(err, ErrMiss) || data != nil {
			t.Errorf("Get(%q) = %q, %v, want an error that is not a miss", key, data, err)
		}
		if err := d.Put(t.Context(), key, []byte("evil")); err == nil {
			t.Errorf("Put(%q) succeeded", key)
		} else if strings.Contains(err.Error(), "\n") {
			t.Errorf("Put(%q): the error is not one line: %q", key, err)
		}
		if err := d.Delete(t.Context(), key); err == nil {
			t.Errorf("Delete(%q) succeeded", key)
		}
	}
	if got, err := os.ReadFile(secret); string(got) != "secret" || err != nil {
		t.Errorf("the file outside the directory is %q, %v", got, err)
	}
	checkEntry(t, d, "example.com", "value")
}

// An unreadable directory is not an empty cache.
func TestDirReportsTroubleAsTrouble(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	d := Dir(file) // a file where the directory should be
	_, getErr := d.Get(t.Context(), "example.com")
	putErr := d.Put(t.Context(), "example.com", []byte("value"))
	for op, err := range map[string]error{"get": getErr, "put": putErr} {
		if err == nil || errors.Is(err, ErrMiss) {
			t.Errorf("%s: error %v, want one that is not a miss", op, err)
			continue
		}
		var pathErr *fs.PathError
		if !errors.As(err, &pathErr) {
			t.Errorf("%s: error %v does not wrap its cause", op, err)
		}
		for _, part := range []string{op, `"example.com"`, file} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%s: error %q does not name %s", op, err, part)
			}
		}
	}
}

// endedAfter is a context that is alive when first asked and has ended
// afterwards: it ends while the file is written.
type endedAfter struct {
	context.Context
	asked int
}

func (c *endedAfter) Err() error {
	c.asked++
	if c.asked > 1 {
		return context.Canceled
	}
	return nil
}

func TestDirPutThatIsCancelledHalfwayKeepsTheOldValue(t *testing.T) {
	d := Dir(t.TempDir())
	if err := d.Put(t.Context(), "example.com", []byte("old")); err != nil {
		t.Fatal(err)
	}
	ctx := &endedAfter{Context: t.Context()}
	if err := d.Put(ctx, "example.com", []byte("new")); !errors.Is(err, context.Canceled) {
		t.Errorf("Put: %v, want context.Canceled", err)
	}
	checkEntry(t, d, "example.com", "old")
	checkNames(t, d, "example.com")
}

func TestDirPutThatFailsLeavesNoTemporaryFile(t *testing.T) {
	d := Dir(t.TempDir())
	// A directory in place of the file makes the rename fail.
	if err := os.MkdirAll(filepath.Join(string(d), "example.com", "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := d.Put(t.Context(), "example.com", []byte("value")); err == nil {
		t.Error("Put over a directory succeeded")
	}
	checkNames(t, d, "example.com")
}

func TestDirStoresAHostOfTheGreatestLength(t *testing.T) {
	d := Dir(t.TempDir())
	label := strings.Repeat("a", 63)
	host := strings.Join([]string{label, label, label, label[:61]}, ".")
	if len(host) != 253 {
		t.Fatalf("the host has %d bytes", len(host))
	}
	if err := d.Put(t.Context(), host, []byte("value")); err != nil {
		t.Fatal(err)
	}
	checkEntry(t, d, host, "value")
}

// A client can make a server look up a key that no file can have.
func TestDirKeyThatIsTooLongForAFileIsAMiss(t *testing.T) {
	d := Dir(t.TempDir())
	for _, n := range []int{maxFileName, maxFileName + 1, 5000} {
		key := strings.Repeat("k", n)
		if _, err := d.Get(t.Context(), key); err != ErrMiss {
			t.Errorf("Get of a key of %d bytes: %v, want ErrMiss", n, err)
		}
		if err := d.Delete(t.Context(), key); err != nil {
			t.Errorf("Delete of a key of %d bytes: %v", n, err)
		}
		if err := d.Put(t.Context(), key, []byte("value")); (err != nil) != (n > maxFileName) {
			t.Errorf("Put of a key of %d bytes: %v", n, err)
		}
		d.Delete(t.Context(), key)
	}
}

func TestAwaitReturnsWhenTheContextEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		hang := make(chan struct{})
		defer close(hang) // so that f's goroutine ends with the test
		done := make(chan error)
		go func() {
			_, err := await(ctx, func() (int, error) { <-hang; return 1, nil })
			done <- err
		}()
		synctest.Wait() // f hangs
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("await: %v, want context.Canceled", err)
		}
	})
}

// A change that was begun has ended when the call returns, also if its context
// ended meanwhile, unless the file system hangs.
func TestAwaitChangeLeavesNothingBehind(t *testing.T) {
	for _, tt := range []struct {
		name  string
		takes time.Duration // after the context has ended
		ended bool
	}{
		{"at once", 0, true},
		{"soon", changeGrace - 1, true},
		{"hangs", time.Hour, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const before = time.Second
				ctx, cancel := context.WithTimeout(t.Context(), before)
				defer cancel()
				begin := time.Now()
				var ended atomic.Bool
				err := awaitChange(ctx, func() error {
					<-ctx.Done()
					time.Sleep(tt.takes)
					ended.Store(true)
					return ctx.Err()
				})
				if ended.Load() != tt.ended || !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("ended: %v, error %v", ended.Load(), err)
				}
				if took := time.Since(begin) - before; took > changeGrace {
					t.Errorf("returned %v after its context had ended", took)
				}
				time.Sleep(tt.takes) // the goroutine ends before the bubble
			})
		})
	}
}

// Nothing appears in a directory after the last Put has returned.
func TestDirPutThatIsCanceledLeavesNothingBehind(t *testing.T) {
	for i := range 300 {
		dir := filepath.Join(t.TempDir(), "certs")
		ctx, cancel := context.WithCancel(t.Context())
		go cancel()
		if err := Dir(dir).Put(ctx, "example.com", []byte("value")); err != nil && !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Fatalf("round %d: %v", i, err)
		}
		if left, err := os.ReadDir(filepath.Dir(dir)); err != nil || len(left) > 0 {
			t.Fatalf("round %d: %v appeared later (error %v)", i, left, err)
		}
	}
}

func TestAwaitStartsNothingUnderAnEndedContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := await(ctx, func() (int, error) { panic("called") })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("await: %v, want context.Canceled", err)
	}
}

func checkEntry(t *testing.T, d Dir, key, want string) {
	t.Helper()
	if got, err := d.Get(t.Context(), key); string(got) != want || err != nil {
		t.Errorf("Get(%q) = %q, %v, want %q", key, got, err, want)
	}
}

func checkNames(t *testing.T, d Dir, want string) {
	t.Helper()
	entries, err := os.ReadDir(string(d))
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 1 || entries[0].Name() != want {
		t.Errorf("the directory holds %v, want %s alone", entries, want)
	}
}
