package acmetest_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// An edit that is lifted while its request is held up does not act on it.
func TestEditOfAHeldUpRequest(t *testing.T) {
	inBubble(t, func(t *testing.T, s *acmetest.Server, _ *responder) {
		s.Delay(acmetest.Match{}, 2*time.Second)
		s.Edit(acmetest.Match{}, func(r *acmetest.Reply) { r.Status = 203 })
		fault := s.Edit(acmetest.Match{}, func(r *acmetest.Reply) { r.Status = 599 })
		time.AfterFunc(time.Second, fault.Lift)
		if resp, _, err := fetch(t, s, s.URL, time.Minute); err != nil || resp.StatusCode != 203 {
			t.Errorf("%v, %v", resp, err)
		}
		if r := lastRequest(s); r.Fault != "Delay,Edit" {
			t.Errorf("log entry %+v", r)
		}
	})
}

// An edit is called concurrently for concurrent requests, without a lock.
func TestEditConcurrently(t *testing.T) {
	bothWays(t, func(t *testing.T, s *acmetest.Server) {
		const n = 8
		var calls, dropped atomic.Int32
		var all sync.WaitGroup
		all.Add(n)
		s.Edit(acmetest.Match{Endpoint: acmetest.Unknown}, func(r *acmetest.Reply) {
			all.Done()
			all.Wait() // all are in here
			s.Count(acmetest.Any)
			s.Orders()
			s.Edit(acmetest.Match{Endpoint: acmetest.NewOrder}, func(*acmetest.Reply) {}).Lift()
			r.Drop = calls.Add(1)%2 == 0
		})
		var clients sync.WaitGroup
		for range n {
			clients.Go(func() {
				resp, err := s.Client().Post(s.URL+"/x", "", strings.NewReader("{}"))
				if err != nil {
					dropped.Add(1)
					return
				}
				resp.Body.Close()
			})
		}
		clients.Wait()
		if calls.Load() != n || dropped.Load() != n/2 {
			t.Errorf("%d calls, %d dropped", calls.Load(), dropped.Load())
		}
	})
}

// The context of a waiting edit ends with the client and with the server, which
// waits for it.
func TestEditThatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := acmetest.NewMemoryServer()
		var ended atomic.Int32
		s.Edit(acmetest.Match{}, func(r *acmetest.Reply) {
			<-r.Context().Done()
			ended.Add(1)
		})
		if _, _, err := fetch(t, s, s.URL, time.Minute); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the client that leaves: %v", err)
		}
		synctest.Wait()
		if ended.Load() != 1 {
			t.Error("the edit goes on after its client has left")
		}
		failed := make(chan error, 1)
		go func() {
			_, err := s.Client().Get(s.URL)
			failed <- err
		}()
		synctest.Wait()
		s.Close()
		if ended.Load() != 2 {
			t.Error("Close did not wait for the edit")
		}
		<-failed
	})
	s := acmetest.NewServer()
	var ended atomic.Bool
	s.Edit(acmetest.Match{}, func(r *acmetest.Reply) {
		<-r.Context().Done()
		ended.Store(true)
	})
	failed := make(chan error, 1)
	go func() {
		_, err := s.Client().Get(s.URL)
		failed <- err
	}()
	if err := s.WaitInFlight(t.Context(), 1); err != nil {
		t.Error(err)
	}
	s.Close()
	if err := <-failed; err == nil || !ended.Load() {
		t.Errorf("over loopback: error %v, ended %v", err, ended.Load())
	}
}
