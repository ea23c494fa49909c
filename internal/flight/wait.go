package flight

import (
	"context"
	"fmt"
	"time"

	"github.com/nostall/nostall/internal/pace"
)

// Sleep waits for d, or returns the error of ctx if that ends first.
func Sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// The waits of Retry.
const (
	retryFirst = 10 * time.Second
	retryMost  = 10 * time.Minute
)

// Retry calls try after a wait, and again after waits that double, until try
// reports that it is done or ctx ends. The waits are meant for work in the
// background, such as repeating a write that failed.
func Retry(ctx context.Context, try func(ctx context.Context) (done bool)) {
	for wait := retryFirst; Sleep(ctx, pace.Jitter(wait)) == nil; wait = min(2*wait, retryMost) {
		if try(ctx) {
			return
		}
	}
}

// Within bounds ctx by d. When that time is over, the cause of the context's
// end begins with missing, such as "no answer", and wraps
// context.DeadlineExceeded.
func Within(ctx context.Context, d time.Duration, missing string) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, d, fmt.Errorf("%s within %v: %w", missing, d, context.DeadlineExceeded))
}
