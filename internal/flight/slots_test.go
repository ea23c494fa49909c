package flight

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestSlotsGoByPriority(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewSlots(1, 4)
		first, err := s.Acquire(t.Context(), Claim{Priority: 3})
		if err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		var got []int
		var wg sync.WaitGroup
		for _, p := range []int{3, 2, 1, 0} {
			wg.Go(func() {
				release, err := s.Acquire(t.Context(), Claim{Priority: p, Suspect: p == 2})
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				got = append(got, p)
				mu.Unlock()
				release()
			})
			synctest.Wait()
		}
		cancelled, cancel := context.WithCancel(t.Context())
		wg.Go(func() {
			if _, err := s.Acquire(cancelled, Claim{}); !errors.Is(err, context.Canceled) {
				t.Errorf("acquire under a cancelled context: %v", err)
			}
		})
		synctest.Wait()
		cancel()
		synctest.Wait()
		first()
		wg.Wait()
		if want := []int{0, 1, 2, 3}; !slices.Equal(got, want) {
			t.Errorf("slots were granted in the order %v, want %v", got, want)
		}
		if used, waiting := s.Load(); used != 0 || waiting != 0 {
			t.Errorf("%d slots used and %d waiting at the end", used, waiting)
		}
	})
}

// Suspects never starve the others.
func TestSuspectsHoldAQuarterOfTheSlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewSlots(8, 1)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				if release, err := s.Acquire(ctx, Claim{Suspect: true}); err == nil {
					<-ctx.Done()
					release()
				}
			})
		}
		synctest.Wait()
		if used, waiting := s.Load(); used != 2 || waiting != 3 {
			t.Errorf("%d suspects hold slots and %d wait, want 2 and 3", used, waiting)
		}
		for range 6 {
			release, err := s.Acquire(t.Context(), Claim{})
			if err != nil {
				t.Fatal(err)
			}
			defer release()
		}
		cancel()
		wg.Wait()
	})
}

// A suspect that is done makes room for the next one.
func TestSuspectsTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewSlots(2, 1)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		for range 3 {
			release, err := s.Acquire(ctx, Claim{Suspect: true})
			if err != nil {
				t.Fatal(err)
			}
			release()
		}
	})
}

// A slot that is granted after its claim's context has ended, but before the
// claim is withdrawn, is not lost.
func TestSlotGrantedAtTheLastMomentIsNotLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewSlots(1, 1)
		if _, err := s.Acquire(t.Context(), Claim{}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := s.Acquire(ctx, Claim{}); err == nil {
				t.Error("the claim got the slot after its context had ended")
			}
		})
		synctest.Wait()
		s.mu.Lock()
		cancel()
		s.used-- // what release does
		s.grant()
		s.mu.Unlock()
		wg.Wait()
		if used, waiting := s.Load(); used != 0 || waiting != 0 {
			t.Errorf("%d slots used and %d waiting at the end", used, waiting)
		}
	})
}
