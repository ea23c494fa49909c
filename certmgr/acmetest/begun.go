package acmetest

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
)

// Fault is a fault that a test has begun by a method of [Server], such as
// Stall. Its methods are safe for concurrent use.
type Fault struct {
	what   string        // the call that began it
	lifted chan struct{} // closed by Lift
	lift   func()

	acted  atomic.Int64
	edited atomic.Int64 // replies that Edit was given, whether or not it changed them
}

// Lift ends the fault. What it holds up continues. Lift may be called more than
// once.
func (f *Fault) Lift() { f.lift() }

// Acted returns how often the fault has acted: on how many requests, replies,
// orders, validations or certificates. An Edit acts if it changes the reply.
// The number remains when the fault has ended. Zero at the end of a test
// usually means that the test did not test what it meant to; the server's
// String names such faults.
func (f *Fault) Acted() int { return int(f.acted.Load()) }

// String returns the call that began the fault, without what does not select
// where it acts: Stall(newOrder, "www.example.com").
func (f *Fault) String() string { return f.what }

// unused describes the faults that never acted, oldest first.
func (s *Server) unused() []string {
	var list []string
	for _, f := range s.begun.neverActed() {
		line := "a fault that never acted: " + f.what
		if n := f.edited.Load(); n > 0 {
			line += fmt.Sprintf(" (it was given %d replies and changed none)", n)
		}
		list = append(list, line)
	}
	return list
}

// begunFaults remembers which faults have not acted yet.
type begunFaults struct {
	mu   sync.Mutex
	list []*Fault // oldest first; may include some that have acted
	idle int      // length of list after the last clean-up
}

// newFault returns a fault. Lifting it calls end, once.
func newFault(what string, end func()) *Fault {
	f := &Fault{what: what, lifted: make(chan struct{})}
	f.lift = sync.OnceFunc(func() {
		end()
		close(f.lifted)
	})
	return f
}

// add returns a new fault that String names until it acts.
func (fs *begunFaults) add(what string, end func()) *Fault {
	f := newFault(what, end)
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if len(fs.list) > 2*fs.idle+dumpOthers { // a simulation begins very many
		fs.list = slices.DeleteFunc(fs.list, func(f *Fault) bool { return f.Acted() > 0 })
		fs.idle = len(fs.list)
	}
	fs.list = append(fs.list, f)
	return f
}

// neverActed returns the faults that have not acted, oldest first, including
// those that have ended.
func (fs *begunFaults) neverActed() []*Fault {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(fs.list), func(f *Fault) bool { return f.Acted() > 0 })
}
