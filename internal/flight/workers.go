package flight

import (
	"context"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/nostall/nostall/internal/text"
)

// Workers runs one kind of user callback that usually returns at once, and may
// hang all the same. It does what a Flight of Callouts does, at a third of the
// cost: the callers for a key share its call, a caller gets an answer in time
// whatever the callback does, and a call that does not return keeps its key and
// counts against a limit. Calls run in goroutines that wait for the next one, so
// that a call costs a hand-off. One timer serves all calls, and a call's context
// has no timer or channel of its own unless the callback asks for them.
//
// Workers is safe for concurrent use. It ends with its Tasks.
type Workers[V any] struct {
	cfg   WorkersConfig[V]
	seats sync.Pool // of *seat

	mu      sync.Mutex // never held while a callback runs or a caller waits
	running map[string]*workerCall[V]
	idle    []*worker[V] // the one that was busy last is at the end
	workers int          // goroutines
	timer   *time.Timer  // calls look; nil until the first call
	armed   bool         // timer runs
	looks   uint         // how often look has run
	closed  bool
	gone    chan struct{} // closed when closed and workers is 0
}

// WorkersConfig says what Workers run.
type WorkersConfig[V any] struct {
	Tasks   *Tasks   // their end is that of Workers
	Waiters *Waiters // limits the callers that join a call

	Name    string        // of the callback, for errors
	Limit   int           // of calls that have not returned
	Timeout time.Duration // of a call's context

	// Call calls the callback for key and sets the answer. It may do whatever a
	// callback may.
	Call func(ctx context.Context, key string, answer *V)

	// Value returns what a call's context has for a key, or nil.
	Value func(key any, answer *V) any

	// ForKey is the key under which a call's context has Caller.For of the
	// caller that began it, until the call has returned or was given up.
	ForKey any

	// OnDeath is called in the callback's goroutine, when it has panicked or
	// called runtime.Goexit, with Name. It must not block.
	OnDeath func(name string, d *Death)
}

// NewWorkers returns Workers without a goroutine.
func NewWorkers[V any](cfg WorkersConfig[V]) *Workers[V] {
	s := &Workers[V]{cfg: cfg, running: make(map[string]*workerCall[V]), gone: make(chan struct{})}
	s.seats.New = func() any { return &seat{done: make(chan struct{}, 1)} }
	context.AfterFunc(cfg.Tasks.ctx, s.close)
	return s
}

// worker is a goroutine.
type worker[V any] struct {
	calls chan *workerCall[V] // one at a time; closed to end it
	looks uint                // Workers.looks when it became idle
}

// NoAnswer is the error of a call that gave no answer.
type NoAnswer struct{ Err error }

func (e *NoAnswer) Error() string { return e.Err.Error() }
func (e *NoAnswer) Unwrap() error { return e.Err }

// Caller says how long a caller waits, and for whom. The zero value waits as long
// as its context and the call last.
type Caller struct {
	Now   time.Time // when it began; a caller that has just read the clock need not have it read again
	Until time.Time
	For   any // what the context of a call that it begins has for WorkersConfig.ForKey
}

// Do joins the call for key, or begins one and waits for its answer. If ctx or
// the caller's time ends first, it returns a *Left, and the call goes on.
// Other errors are a *NoAnswer, ErrClosed, or a *Busy if too many callers wait
// already.
func (s *Workers[V]) Do(ctx context.Context, key string, by Caller) (V, error) {
	return s.do(ctx, key, by, s.cfg.Waiters)
}

// maxYields is how often a caller lets others run before it is turned away.
const maxYields = 100

// DoInTask is Do for tasks, which do not count against the limit of Waiters.
func (s *Workers[V]) DoInTask(ctx context.Context, key string, by Caller) (V, error) {
	return s.do(ctx, key, by, nil)
}

func (s *Workers[V]) do(ctx context.Context, key string, by Caller, limit *Waiters) (answer V, err error) {
	if by.Now.IsZero() {
		by.Now = time.Now()
	}
	s.mu.Lock()
	// In a burst of calls, workers may be busy only because they wait for a
	// processor.
	for n := 0; n < maxYields && len(s.running) >= s.cfg.Limit; n++ {
		s.mu.Unlock()
		runtime.Gosched()
		s.mu.Lock()
	}
	if s.closed || s.cfg.Tasks.IsClosed() {
		s.mu.Unlock()
		return answer, ErrClosed
	}
	if c := s.running[key]; c != nil {
		done, err := c.join()
		s.mu.Unlock()
		if err != nil {
			return answer, err
		}
		return c.wait(ctx, done, by.Until, limit)
	}
	if n := len(s.running); n >= s.cfg.Limit {
		s.mu.Unlock()
		return answer, &NoAnswer{&Busy{What: fmt.Sprintf("%d calls of %s have not returned", n, s.cfg.Name)}}
	}
	c := &workerCall[V]{
		mu:      &s.mu,
		cfg:     &s.cfg,
		key:     key,
		since:   by.Now,
		from:    by.For,
		waiters: wakeUp{seat: s.seats.Get().(*seat)},
	}
	s.running[key] = c
	here, to := c.waiters.seat, s.takeWorker()
	s.arm(s.cfg.Timeout + Grace)
	s.mu.Unlock()
	to.calls <- c
	answer, err = c.await(ctx, here, by.Until)
	s.seats.Put(here) // nothing is sent to it any more
	return answer, err
}

// takeWorker returns an idle worker, or a new one. s.mu is held.
func (s *Workers[V]) takeWorker() *worker[V] {
	if last := len(s.idle) - 1; last >= 0 {
		w := s.idle[last]
		s.idle[last] = nil
		s.idle = s.idle[:last]
		return w
	}
	w := &worker[V]{calls: make(chan *workerCall[V], 1)}
	s.workers++
	go s.work(w)
	return w
}

// work runs calls until there are none, or one of them ends the goroutine.
func (s *Workers[V]) work(w *worker[V]) {
	defer s.left()
	for c := range w.calls {
		if !s.run(w, c) {
			return
		}
	}
}

// run runs a call. It returns false after a panic, and does not return after a
// Goexit.
func (s *Workers[V]) run(w *worker[V], c *workerCall[V]) (returned bool) {
	defer func() {
		if !returned {
			d := NewDeath(fmt.Sprintf("%s for %q", s.cfg.Name, c.key), recover())
			s.cfg.OnDeath(s.cfg.Name, d)
			s.end(c, nil, &NoAnswer{d})
		}
	}()
	s.cfg.Call(c, c.key, &c.answer)
	s.end(c, w, nil)
	return true
}

// end ends a call whose callback has ended, with the answer if failure is nil.
// w is idle then, if it is not nil.
func (s *Workers[V]) end(c *workerCall[V], w *worker[V], failure error) {
	s.mu.Lock()
	delete(s.running, c.key)
	wake := c.conclude(failure)
	c.ended = true
	switch {
	case w == nil:
	case s.closed:
		close(w.calls)
	default:
		w.looks = s.looks
		s.idle = append(s.idle, w)
		s.arm(s.cfg.Timeout) // it may be the end of a call that was given up
	}
	s.mu.Unlock()
	if made := c.made.Load(); made != nil {
		made.cancel()
	}
	wake.all()
}

// left counts a goroutine that ends.
func (s *Workers[V]) left() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.workers--; s.workers == 0 && s.closed {
		close(s.gone)
	}
}

// arm has look run after d, unless it is to run anyway. s.mu is held.
func (s *Workers[V]) arm(d time.Duration) {
	switch {
	case s.armed:
		return
	case s.timer == nil:
		s.timer = time.AfterFunc(d, s.look)
	default:
		s.timer.Reset(d)
	}
	s.armed = true
}

// look gives up calls that take too long, and ends workers that have been idle
// since the last look. It runs again when the oldest call's time is over; the
// timer never runs for longer than a call may last, so that is in time for those
// that begin meanwhile.
func (s *Workers[V]) look() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.armed = false
	now, next := time.Now(), time.Duration(0)
	for _, c := range s.running {
		left := c.since.Add(s.cfg.Timeout + Grace).Sub(now)
		switch {
		case c.concluded:
		case left <= 0:
			c.conclude(&NoAnswer{fmt.Errorf("%s for %q did not return: %w", s.cfg.Name, c.key, context.DeadlineExceeded)}).all()
		case next == 0 || left < next:
			next = left
		}
	}
	old := 0
	for ; old < len(s.idle) && s.idle[old].looks < s.looks; old++ {
		close(s.idle[old].calls)
	}
	s.idle = slices.Delete(s.idle, 0, old)
	s.looks++
	if next == 0 && len(s.idle) > 0 {
		next = s.cfg.Timeout
	}
	if next > 0 && !s.closed {
		s.arm(next)
	}
}

// close ends idle workers at once and gives up calls after Grace, in which
// callbacks that heed their context return.
func (s *Workers[V]) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, w := range s.idle {
		close(w.calls)
	}
	s.idle = nil
	if s.workers == 0 {
		close(s.gone)
		return
	}
	if s.timer != nil {
		s.timer.Stop()
	}
	s.timer = time.AfterFunc(Grace, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, c := range s.running {
			if !c.concluded {
				c.conclude(ErrClosed).all()
			}
		}
	})
}

// Wait waits until all goroutines have ended, once Tasks is closed. If ctx ends
// first, the error names the calls that are running.
func (s *Workers[V]) Wait(ctx context.Context) error {
	select {
	case <-s.gone:
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	keys := slices.Sorted(maps.Keys(s.running))
	s.mu.Unlock()
	if len(keys) == 0 {
		return nil
	}
	return notReturned(s.cfg.Name, keys)
}

// notReturned is the error of Wait for calls that are running.
func notReturned(name string, keys []string) error {
	return fmt.Errorf("certmgr: close: %d calls of %s have not returned: %s",
		len(keys), name, text.OneLine(fmt.Sprintf("%q", keys), text.MaxError))
}
