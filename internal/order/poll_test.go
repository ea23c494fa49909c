package order

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// Failures end the polling if they are consecutive: a CA that fails now and
// then reaches a result.
func TestPollingCountsConsecutiveFailures(t *testing.T) {
	errFailed := errors.New("failed")
	for name, tt := range map[string]struct {
		replies string // "f" for a failure, "." for no result yet, "v" for the result
		want    error
	}{
		"now and then": {"f.f.f.v", nil},
		"twice":        {"f.ffv", errFailed},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rule := pollRule{first: time.Second, maxFails: 2, isFatal: func(error) bool { return false }}
				n := 0
				_, err := poll(t.Context(), rule, func(context.Context) (struct{}, bool, error) {
					n++
					switch tt.replies[n-1] {
					case 'f':
						return struct{}{}, false, errFailed
					case '.':
						return struct{}{}, false, nil
					}
					return struct{}{}, true, nil
				})
				if err != tt.want {
					t.Errorf("after %d replies: %v, want %v", n, err, tt.want)
				}
			})
		})
	}
}
