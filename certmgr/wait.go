package certmgr

import (
	"context"
	"fmt"
	"time"

	"github.com/nostall/nostall/internal/pace"
)

// sleep waits for d, or returns the error of ctx if that ends first.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// The waits of retry.
const (
	retryFirst = 10 * time.Second
	retryMost  = 10 * time.Minute
)

// retry calls try after a while, and again after waits that double, until it
// reports that it is done or ctx ends. It is for what the Cache did not take.
func retry(ctx context.Context, try func(ctx context.Context) (done bool)) {
	for wait := retryFirst; sleep(ctx, pace.Jitter(wait)) == nil; wait = min(2*wait, retryMost) {
		if try(ctx) {
			return
		}
	}
}

// within bounds ctx by d. The cause of its end says what there is none of then, and
// wraps context.DeadlineExceeded.
func within(ctx context.Context, d time.Duration, none string) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, d, fmt.Errorf("%s within %v: %w", none, d, context.DeadlineExceeded))
}
