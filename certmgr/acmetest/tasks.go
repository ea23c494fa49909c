package acmetest

import "sync"

// tasks counts the goroutines and requests of a server, so that Close can wait
// for them.
type tasks struct {
	mu     sync.Mutex // orders begin before wait: a WaitGroup must not grow from zero during Wait
	closed bool
	wg     sync.WaitGroup
}

// begin counts one task; false means that the server is closed and the task
// must not start.
func (t *tasks) begin() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false
	}
	t.wg.Add(1)
	return true
}

// end is the counterpart of a begin that returned true.
func (t *tasks) end() { t.wg.Done() }

// Go runs f in a goroutine; false means that the server is closed and f is not
// run.
func (t *tasks) Go(f func()) bool {
	if !t.begin() {
		return false
	}
	go func() {
		defer t.end()
		f()
	}()
	return true
}

// refuse makes every later begin fail.
func (t *tasks) refuse() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
}

// wait waits until all tasks have ended. Call refuse first.
func (t *tasks) wait() { t.wg.Wait() }
