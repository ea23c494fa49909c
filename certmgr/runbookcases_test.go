package certmgr_test

import (
	"context"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/preflight"
)

// situation is one that an entry of the runbook is about.
type situation struct {
	entry string // its heading: a sentinel's name, or a kind of event
	about string // which of the entry's situations, or empty
	is    error  // the sentinel, if the entry is about one

	// provoke causes the situation; the error is that of the last handshake.
	provoke func(w *world) error
	// says are words of the entry that the error or the event has too.
	says []string
	// fix does what the entry says under "Do". Then a.example.com is served.
	// Nil if there is nothing to do.
	fix func(w *world) error
}

const visited = "a.example.com"

func visitHost(w *world) error {
	_, err := w.get(visited)
	return err
}

// What the runbook calls retry and renew.
func retry(w *world) error { return w.m.Obtain(w.t.Context(), visited) }
func renew(w *world) error { return w.m.Renew(w.t.Context(), visited) }

// wait is a fix that needs nobody.
func wait(d time.Duration) func(w *world) error {
	return func(*world) error { time.Sleep(d); return nil }
}

// byFault has a fault provoke s. Its fix ends the fault and then does what is
// said.
func byFault(s situation, fault func(w *world) *acmetest.Fault, do func(w *world) error) situation {
	var f *acmetest.Fault
	provoke := s.provoke
	if provoke == nil {
		provoke = visitHost
	}
	s.provoke = func(w *world) error { f = fault(w); return provoke(w) }
	s.fix = func(w *world) error { f.Lift(); return do(w) }
	return s
}

func refuses(p acmetest.Problem) func(w *world) *acmetest.Fault {
	return func(w *world) *acmetest.Fault { return w.ca.FailValidation(visited, "", p) }
}

func caIsDown(w *world) *acmetest.Fault {
	return w.ca.Status(acmetest.Match{}, http.StatusServiceUnavailable, nil, acmetest.Problem{Type: "serverInternal"})
}

// twice visits twice: the second visitor finds what the first one left.
func twice(w *world) error {
	visitHost(w)
	return visitHost(w)
}

// expiring lets days pass.
func expiring(days int) func(w *world) error {
	return func(w *world) error { time.Sleep(time.Duration(days) * day); return nil }
}

func served(fault func(w *world) *acmetest.Fault) func(w *world) *acmetest.Fault {
	return func(w *world) *acmetest.Fault { w.mustGet(visited); return fault(w) }
}

// byCache has reads of the cache fail.
func byCache(s situation, get func(ctx context.Context, key string) error) situation {
	s.provoke = func(w *world) error { w.cache.get(get); return visitHost(w) }
	s.fix = func(w *world) error { w.cache.get(nil); time.Sleep(time.Second); return nil }
	return s
}

// byClock has a clock that is a year ahead.
func byClock(s situation) situation {
	var off atomic.Int64
	s.provoke = func(w *world) error {
		off.Store(int64(365 * day))
		certmgr.SetClock(w.m, func() time.Time { return time.Now().Add(time.Duration(off.Load())) })
		return visitHost(w)
	}
	s.fix = func(*world) error { off.Store(0); time.Sleep(10 * time.Second); return nil }
	return s
}

// byDNS has the name lead to another machine.
func byDNS(s situation, mode preflight.Mode) situation {
	var n *internet
	s.provoke = func(w *world) error {
		n = w.preflight(mode)
		n.name(visited, "192.0.2.7")
		return visitHost(w)
	}
	s.fix = func(w *world) error { n.name(visited, "192.0.2.1"); return retry(w) }
	return s
}
