package cases

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
)

// H12 (hostile review): a certificate that expires during the call of the
// policy is not served.
func TestNoExpiredCertificateAfterAWait(t *testing.T) {
	table.Run(t, "H12", func(t *T) {
		short := func(ca *acmetest.Server) { ca.Lifetime = 6 * 24 * time.Hour } // so that it expires soon
		bubbleCA(t, short, func(t *T, w *world) {
			var slow atomic.Bool
			w.m.Hosts, w.m.PolicyTTL, w.m.HandshakeWait = nil, -1, -1
			w.m.HostPolicy = func(ctx context.Context, _ string) error {
				if slow.Load() {
					time.Sleep(4 * time.Second)
				}
				return nil
			}
			mustObtain(t, w, host)
			cert, err := w.get(host)
			if err != nil {
				t.Fatal(err)
			}
			w.ca.Drop(acmetest.Match{}) // it cannot be renewed
			time.Sleep(time.Until(cert.Leaf.NotAfter) - 2*time.Second)
			slow.Store(true)
			if cert, err := w.get(host); err == nil && time.Now().After(cert.Leaf.NotAfter) {
				t.Errorf("served %v after its end", time.Since(cert.Leaf.NotAfter))
			}
		})
	})
}

// blockingError is an error of a policy; one of its methods blocks.
type blockingError struct {
	once    *sync.Once
	entered chan struct{}
	block   chan struct{}
}

func (e blockingError) Error() string { return "blocked" }
func (e blockingError) Is(target error) bool {
	if target == certmgr.ErrClosed {
		e.once.Do(func() { close(e.entered) })
		<-e.block
	}
	return target == certmgr.ErrPolicy
}

// H14 (hostile review): no lock is held while a method of the user's error
// runs.
func TestPolicyErrorThatBlocksHarmsNoOtherHost(t *testing.T) {
	table.Run(t, "H14", func(t *T) {
		// Outside a bubble, which would wait for a mutex that is held forever.
		e := blockingError{new(sync.Once), make(chan struct{}), make(chan struct{})}
		m := &certmgr.Manager{Audit: new(recorder).hook, HostPolicy: func(_ context.Context, name string) error {
			if name == host {
				return e
			}
			return certmgr.ErrPolicy
		}}
		defer m.Close()
		get := func(name string) (done chan struct{}) {
			done = make(chan struct{})
			go func() {
				defer close(done)
				m.GetCertificate(hello(name))
			}()
			return done
		}
		first := get(host)
		select {
		case <-e.entered:
		case <-first:
		}
		second := get("other.example.com")
		for locked := 0; ; runtime.Gosched() {
			select {
			case <-second:
			default:
				if waitsForLock("GetCertificate") {
					locked++
				} else {
					locked = 0
				}
				if locked < 1000 {
					continue
				}
				t.Error("a handshake waits for a lock that is held while an error's method runs for another host")
			}
			break
		}
		close(e.block)
		<-first
		<-second
	})
}

// waitsForLock reports whether a goroutine in a function waits for a mutex.
func waitsForLock(function string) bool {
	buf := make([]byte, 1<<20)
	for stack := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		state, _, _ := strings.Cut(stack, "\n")
		if strings.Contains(state, "[sync.Mutex.Lock") && strings.Contains(stack, function) {
			return true
		}
	}
	return false
}

// H15 (hostile review): the text of an error is bounded and never panics,
// however long its parts are.
func TestLongReasonsMakeErrorsOfBoundedLength(t *testing.T) {
	for name, policy := range map[string]certmgr.HostPolicy{
		"list alone": nil,
		"policy's own IssuanceError": func(context.Context, string) error {
			return &certmgr.IssuanceError{Host: "tenant.example.net", Stage: audit.StageOrder, Err: errors.New(strings.Repeat("no ", 5000)), RetryAt: time.Now().Add(time.Hour)}
		},
	} {
		table.Run(t, "H15/"+name, func(t *T) {
			bubble(t, func(t *T, w *world) {
				w.m.HostPolicy = policy
				w.ca.Stall(acmetest.Match{Endpoint: acmetest.NewOrder})
				result := make(chan error, 1)
				go func() {
					_, err := w.get(host)
					result <- err
				}()
				time.Sleep(time.Second)
				w.m.Hosts.Because(strings.Repeat("reason ", 400)).Remove(host)
				err := <-result
				if text := err.Error(); len(text) > 4096 || !strings.Contains(text, host) {
					t.Errorf("%d bytes: %.200s", len(text), text)
				}
			})
		})
	}
}

// H22 (hostile review): a handshake that does not wait for an issuance waits
// for the policy and the cache within its own bound.
func TestSlowCallbacksDoNotAddUp(t *testing.T) {
	const callback = 4900 * time.Millisecond // each within its own bound
	for name, slowPolicy := range map[string]bool{"cache": false, "cache and policy": true} {
		table.Run(t, "H22/"+name, func(t *T) {
			bubble(t, func(t *T, w *world) {
				w.cache = &hookedCache{get: func(context.Context, string) error { time.Sleep(callback); return nil }}
				w.restart()
				w.m.HandshakeWait = -1
				if slowPolicy {
					w.m.Hosts = nil
					w.m.HostPolicy = func(context.Context, string) error { time.Sleep(callback); return nil }
				}
				begin := time.Now()
				w.get(host)
				if d := time.Since(begin); d > 10*time.Second {
					t.Errorf("the handshake took %v, want 5 s for the policy and 5 s for the cache at most", d)
				}
			})
		})
	}
}

// H24 (hostile review): a policy that panicked has not timed out, and the error
// says which happened.
func TestPolicyThatPanicsIsNotLate(t *testing.T) {
	table.Run(t, "H24", func(t *T) {
		bubble(t, func(t *T, w *world) {
			w.m.Hosts = nil
			w.m.HostPolicy = func(context.Context, string) error { panic("no rows") }
			_, err := w.get(host)
			if err == nil || strings.Contains(err.Error(), "within") || !strings.Contains(err.Error(), "panicked") {
				t.Errorf("[%s] %v, want an error that says that the policy panicked", sentinels(err), err)
			}
			synctest.Wait()
		})
	})
}
