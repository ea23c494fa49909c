//go:build darwin || linux

package cache_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"github.com/nostall/nostall/certmgr/cache"
)

// Opening a named pipe for reading hangs until it is opened for writing, as a
// read from a network mount does when its server is gone.
func TestDirGetIsNotHeldByAFileSystemThatHangs(t *testing.T) {
	d := cache.Dir(t.TempDir())
	pipe := filepath.Join(string(d), "example.com")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	type result struct {
		data []byte
		err  error
	}
	results := make(chan result)
	go func() {
		data, err := d.Get(ctx, "example.com")
		results <- result{data, err}
	}()

	// The writer can be opened once there is a reader. The reader hangs while
	// the writer writes nothing and returns when it is closed.
	writer, err := os.OpenFile(pipe, os.O_WRONLY|syscall.O_NONBLOCK, 0)
	for errors.Is(err, syscall.ENXIO) {
		runtime.Gosched()
		writer, err = os.OpenFile(pipe, os.O_WRONLY|syscall.O_NONBLOCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()

	cancel()
	if r := <-results; !errors.Is(r.err, context.Canceled) || errors.Is(r.err, cache.ErrMiss) || r.data != nil {
		t.Errorf("Get = %q, %v, want context.Canceled", r.data, r.err)
	}
}
