package certmgr

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/internal/bundle"
	"github.com/nostall/nostall/internal/flight"
)

// Close waits for a write that waits for one that was given up.
func TestCloseWaitsForSuccessors(t *testing.T) {
	inside(t, func(t *testing.T, w *insides) {
		s := w.m.engine.operator.store
		w.cache.put(func(context.Context, string) error { return flight.Sleep(context.Background(), 2*time.Second) })
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		s.put(ctx, "a.example.com", []byte("first"))
		s.tasks.Go(func(ctx context.Context) { s.put(context.WithoutCancel(ctx), "a.example.com", []byte("second")) })
		synctest.Wait()
		if err := w.m.Close(); err != nil {
			t.Error(err)
		}
		if got, err := w.cache.Get(t.Context(), "a.example.com"); string(got) != "second" {
			t.Errorf("Close lost a write that waited: %q, %v", got, err)
		}
	})
}

// A write that was given up does not land on top of a later one.
func TestAbandonedWriteIsNotTheLast(t *testing.T) {
	for _, takes := range []time.Duration{1500 * time.Millisecond, 4 * time.Second} {
		for _, what := range []string{"put", "delete", "conditional delete"} {
			t.Run(what+" after "+takes.String(), func(t *testing.T) {
				inside(t, func(t *testing.T, w *insides) {
					s := w.m.engine.operator.store
					puts := 0
					w.cache.put(func(context.Context, string) error {
						if puts++; puts == 1 {
							time.Sleep(takes) // and writes all the same
						}
						return nil
					})
					ctx, cancel := context.WithTimeout(t.Context(), time.Second)
					defer cancel()
					if err := s.put(ctx, "a.example.com", []byte("first")); !errors.Is(err, ErrCache) || errors.Is(err, ErrBusy) {
						t.Fatalf("the first write: %v", err)
					}
					var err error
					want := ""
					switch what {
					case "put":
						want = "second"
						err = s.put(t.Context(), "a.example.com", []byte(want))
					case "delete":
						err = s.delete(t.Context(), "a.example.com")
					case "conditional delete":
						err = s.deleteIf(t.Context(), "a.example.com", func(data []byte) bool { return string(data) == "first" })
					}
					if err != nil {
						t.Error(err)
					}
					time.Sleep(time.Minute)
					if got, err := w.cache.Get(t.Context(), "a.example.com"); string(got) != want {
						t.Errorf("the Cache has %q (%v), want %q", got, err, want)
					}
				})
			})
		}
	}
}

// A certificate that the CA has issued is written even if the Manager is closed
// meanwhile.
func TestCertificateIsWrittenWhenCloseComesFirst(t *testing.T) {
	inside(t, func(t *testing.T, w *insides) {
		s := w.m.engine.operator
		cert := certFor(t, newSubject(bundle.ECDSA, s.dir, "a.example.com"))
		w.m.Close()
		s.store.putCertificate(certificateWrite{
			cert:    cert,
			put:     func(ctx context.Context) error { return s.store.put(ctx, cert.entry, []byte("the entry")) },
			current: func() bool { return true },
			stored:  func(context.Context) {},
			ended:   func() {},
		})
		if data, err := w.cache.Get(t.Context(), "a.example.com"); string(data) != "the entry" {
			t.Errorf("lost: %v", err)
		}
	})
}

// Whether an entry is written or deleted is decided after the writes before: what is
// known may be another thing by then.
func TestWriteIsDecidedWhenItIsItsTurn(t *testing.T) {
	for name, data := range map[string][]byte{"put": []byte("second"), "delete": nil} {
		t.Run(name, func(t *testing.T) {
			inside(t, func(t *testing.T, w *insides) {
				s := w.m.engine.operator.store
				w.cache.put(func(context.Context, string) error { return flight.Sleep(context.Background(), 2*time.Second) })
				var wanted atomic.Bool
				wanted.Store(true)
				s.tasks.Go(func(ctx context.Context) { s.put(ctx, "a.example.com", []byte("first")) })
				synctest.Wait()
				s.tasks.Go(func(ctx context.Context) { s.putIf(ctx, "a.example.com", data, wanted.Load) })
				synctest.Wait()
				wanted.Store(false)
				time.Sleep(10 * time.Second)
				if got, err := w.cache.Get(t.Context(), "a.example.com"); string(got) != "first" {
					t.Errorf("got %q, %v", got, err)
				}
			})
		})
	}
}
