package sqlcache

import (
	"context"
	"database/sql/driver"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Rows of dead holders are looked for once in a while, and again at the next Unlock
// as long as there are many. An Unlock does not fail because of them.
func TestCleaningIsRareAndBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		c := f.open(t, SQLite)
		var dead int
		var failed error
		// unlock returns how many statements an Unlock makes beside its own.
		unlock := func() int {
			t.Helper()
			f.calls = 0
			f.reply = func(_ context.Context, statement string) (rows [][]driver.Value, affected int64, err error) {
				if !strings.HasPrefix(statement, "SELECT") {
					return nil, 1, nil
				}
				for range min(dead, maxCleaned) {
					rows = append(rows, []driver.Value{"name"})
				}
				dead -= len(rows)
				return rows, 0, failed
			}
			if err := (&lease{cache: c, name: "name", token: 1}).Unlock(t.Context()); err != nil {
				t.Error(err)
			}
			return f.calls - 1
		}
		for _, step := range []struct {
			name   string
			passes time.Duration
			dead   int
			failed error
			want   int
		}{
			{"at first", 0, 0, nil, 1},
			{"soon after", cleanInterval - 1, 1, nil, 0},
			{"an hour later", 1, 2, nil, 3},
			{"soon after some", 0, 1, nil, 0},
			{"when there are many", cleanInterval, maxCleaned + 1, nil, 1 + maxCleaned},
			{"soon after many", 0, 1, nil, 2},
			{"soon after the rest", 0, 1, nil, 0},
			{"when it fails", cleanInterval, 1, errors.New("too slow"), 1},
			{"soon after it failed", 0, 1, nil, 0},
		} {
			time.Sleep(step.passes)
			dead, failed = step.dead, step.failed
			if got := unlock(); got != step.want {
				t.Errorf("%s: %d statements, want %d", step.name, got, step.want)
			}
		}
	})
}
