package cache

import (
	"errors"
	"slices"
	"testing"
)

// stepFile records the calls made on it and fails at one step.
type stepFile struct {
	steps []string
	fail  string
}

func (f *stepFile) step(name string) error {
	f.steps = append(f.steps, name)
	if name == f.fail {
		return errors.New(name + " failed")
	}
	return nil
}

func (f *stepFile) Write(data []byte) (int, error) { return len(data), f.step("write") }
func (f *stepFile) Sync() error                    { return f.step("sync") }
func (f *stepFile) Close() error                   { return f.step("close") }

// A value is flushed to disk before the rename, and no failure is lost.
func TestDirFlushesAValueBeforeItCloses(t *testing.T) {
	for fail, want := range map[string][]string{
		"":      {"write", "sync", "close"},
		"write": {"write", "close"},
		"sync":  {"write", "sync", "close"},
		"close": {"write", "sync", "close"},
	} {
		f := &stepFile{fail: fail}
		err := writeSync(f, []byte("value"))
		if (err != nil) != (fail != "") || !slices.Equal(f.steps, want) {
			t.Errorf("with a failure of %q: %v after %q, want %q", fail, err, f.steps, want)
		}
	}
}
