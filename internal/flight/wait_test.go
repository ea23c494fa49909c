package flight

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestRetryWaitsLongerUntilItIsDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start, tries := time.Now(), 0
		Retry(t.Context(), func(context.Context) bool {
			tries++
			return tries == 9
		})
		waits := []time.Duration{10, 20, 40, 80, 160, 320, 600, 600, 600} // seconds
		var want time.Duration
		for _, w := range waits {
			want += w * time.Second
		}
		if d := time.Since(start); d < want*9/10 || d > want*11/10 {
			t.Errorf("%d tries took %v, want about %v", tries, d, want)
		}
	})
}

func TestRetryEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		Retry(ctx, func(context.Context) bool { return false })
		if ctx.Err() == nil {
			t.Error("Retry returned though its context goes on")
		}
	})
}

func TestWithinSaysWhatIsMissing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := Within(t.Context(), time.Second, "no answer")
		defer cancel()
		<-ctx.Done()
		cause := context.Cause(ctx)
		if !errors.Is(cause, context.DeadlineExceeded) || cause.Error() != "no answer within 1s: context deadline exceeded" {
			t.Errorf("the cause is %v", cause)
		}
	})
}
