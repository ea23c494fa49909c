package cases

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr/cache"
)

// A process that is killed at any system call of a Put leaves the old value or
// the new one, and at most one temporary file, which is removed when it is old.
func TestDirPutThatIsKilledLeavesAWholeValue(t *testing.T) {
	table.Run(t, "held/killed during Put", func(t *T) {
		needStrace(t)
		kills, values := make(map[string]int), make(map[string]int)
		// strace counts the calls of each thread on its own. Which calls a round
		// reaches depends on how the child's threads share the work.
		var missing []string
		for range 20 {
			for _, name := range fileCalls {
				killPuts(t, name, kills, values)
			}
			if missing = notKilled(kills, values); len(missing) == 0 {
				break
			}
		}
		t.Logf("killed in the directory: %v; old and new values: %v", kills, values)
		if len(missing) > 0 {
			t.Errorf("no Put was killed %s", strings.Join(missing, ", nor "))
		}
	})
}

// notKilled returns what no Put was killed at, or before.
func notKilled(kills, values map[string]int) (missing []string) {
	for _, name := range []string{"openat", "write", "fsync", "close", "renameat"} {
		if kills[name] == 0 {
			missing = append(missing, "at "+name)
		}
	}
	if values["O"] == 0 {
		missing = append(missing, "before the new value was there")
	}
	if values["N"] == 0 {
		missing = append(missing, "after the new value was there")
	}
	return missing
}

// killPuts kills a Put at its first call of this name, then at the second, until
// there is none, and checks what is left each time. It counts the kills that
// came in the directory, and which value was there afterwards.
func killPuts(t *T, name string, kills, values map[string]int) {
	t.Helper()
	before, after := strings.Repeat("O", 1000), strings.Repeat("N", 1000)
	for nth := 1; ; nth++ {
		d := cache.Dir(t.TempDir())
		if err := d.Put(t.Context(), putKey, []byte(before)); err != nil {
			t.Fatal(err)
		}
		lines, killed := putUnderStrace(t, string(d), killAt(name, nth)...)
		if !killed {
			return // there is no such call
		}
		if strings.Contains(strings.Join(lines, "\n"), string(d)) {
			kills[name]++
		}
		data, err := d.Get(t.Context(), putKey)
		if err != nil || string(data) != before && string(data) != after {
			t.Fatalf("killed at %s %d: %d bytes, %v", name, nth, len(data), err)
		}
		values[string(data[:1])]++
		if n := clean(t, d); n > 1 {
			t.Errorf("killed at %s %d: %d temporary files, want 1 at most", name, nth, n)
		}
		checkNames(t, d, putKey)
	}
}

// clean removes temporary files as a Manager does after an hour, and returns how
// many there were.
func clean(t *T, d cache.Dir) (n int) {
	t.Helper()
	for _, name := range namesIn(t, d) {
		if !tempFile.MatchString(name) {
			continue
		}
		n++
		old := time.Now().Add(-2 * time.Hour)
		if err := os.Chtimes(filepath.Join(string(d), name), old, old); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Clean(t.Context()); err != nil {
		t.Error(err)
	}
	return n
}

func checkNames(t *T, d cache.Dir, want ...string) {
	t.Helper()
	if names := namesIn(t, d); !slices.Equal(names, want) {
		t.Errorf("in the directory: %q, want %q", names, want)
	}
}

func namesIn(t *T, d cache.Dir) (names []string) {
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
