package cases

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/nostall/nostall/certmgr/cache"
)

// faultMode is what happens to one call.
type faultMode string

// The modes of a call of the Cache.
const (
	fails     faultMode = "fails"
	late      faultMode = "takes effect and fails"
	panics    faultMode = "panics"
	hangs     faultMode = "hangs" // for a minute, or until the end of a request's context
	dies      faultMode = "is the last, and has no effect"
	diesAfter faultMode = "is the last"
)

// The modes of an exchange with the CA are these too, and two more.
const (
	breaks  faultMode = "gets a 500"
	garbles faultMode = "gets a garbled reply"
)

var (
	errFault  = errors.New("injected")
	errKilled = errors.New("the process was killed")
)

// A call is one call of the Cache or of the CA in a life: the nth, counted from
// 1, of those with this name.
type call struct {
	name string
	nth  int
}

func (c call) String() string { return fmt.Sprintf("%s (%d)", c.name, c.nth) }

// isExchange reports whether it is one of the CA.
func (c call) isExchange() bool { return strings.HasPrefix(c.name, "CA ") }

// modes returns the faults that a call can have. Much of a life is asking the CA
// the same again: the first calls stand for all.
func (c call) modes() []faultMode {
	modes := []faultMode{fails, late, panics, hangs, dies, diesAfter}
	switch {
	case !c.isExchange():
		return modes
	case c.nth > 4 && (c.name == "CA renewal-info" || c.name == "CA directory"):
		return nil
	}
	return append(modes, breaks, garbles)
}

// visitsEntry is read and written on its own schedule, all the time.
const visitsEntry = "certmgr+visits"

// surroundings are a Cache and the way to a CA, which processes use one after
// the other. One call of all has a fault.
type surroundings struct {
	cache cache.Memory
	ca    http.RoundTripper
	fault call
	mode  faultMode

	mu    sync.Mutex
	calls []call // those that count
	count map[string]int
	keys  map[string]bool // of entries that were written
	quiet bool            // calls do not count
	hit   bool            // the fault took place
}

func newSurroundings(fault call, mode faultMode) *surroundings {
	return &surroundings{fault: fault, mode: mode, count: make(map[string]int), keys: make(map[string]bool)}
}

// A link is what one process has of its surroundings. Once the process is dead,
// nothing that it calls has an effect.
type link struct {
	*surroundings
	dead chan struct{}
}

func (s *surroundings) newLink() *link { return &link{surroundings: s, dead: make(chan struct{})} }

func (l *link) isDead() bool {
	select {
	case <-l.dead:
		return true
	default:
		return false
	}
}

// begin notes a call and returns its fault, or "".
func (l *link) begin(name string) faultMode {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.isDead() {
		return dies
	}
	if l.quiet || strings.HasSuffix(name, visitsEntry) {
		return ""
	}
	l.count[name]++
	now := call{name, l.count[name]}
	l.calls = append(l.calls, now)
	if now != l.fault {
		return ""
	}
	l.hit = true
	if l.mode == dies {
		close(l.dead)
	}
	return l.mode
}

// end ends the process after a call that is its last.
func (l *link) end(mode faultMode) {
	if mode == diesAfter {
		close(l.dead)
	}
}

// access makes a call of the Cache.
func (l *link) access(ctx context.Context, name string, call func(ctx context.Context) error) error {
	mode := l.begin(name)
	switch mode {
	case "":
		err := call(ctx)
		if l.isDead() {
			return errKilled
		}
		return err
	case late, diesAfter:
		call(context.WithoutCancel(ctx))
		l.end(mode)
	case panics:
		panic(errFault)
	case hangs:
		time.Sleep(time.Minute)
	}
	return errFault
}

func (l *link) Get(ctx context.Context, key string) (data []byte, err error) {
	err = l.access(ctx, "get "+key, func(ctx context.Context) (e error) {
		data, e = l.cache.Get(ctx, key)
		return e
	})
	return data, err
}

func (l *link) Put(ctx context.Context, key string, data []byte) error {
	l.mu.Lock()
	l.keys[key] = true
	l.mu.Unlock()
	return l.access(ctx, "put "+key, func(ctx context.Context) error { return l.cache.Put(ctx, key, data) })
}

func (l *link) Delete(ctx context.Context, key string) error {
	return l.access(ctx, "delete "+key, func(ctx context.Context) error { return l.cache.Delete(ctx, key) })
}

// RoundTrip makes an exchange with the CA.
func (l *link) RoundTrip(req *http.Request) (*http.Response, error) {
	resource, _, _ := strings.Cut(req.URL.Path[1:], "/")
	mode := l.begin("CA " + resource)
	switch mode {
	case "":
		res, err := l.ca.RoundTrip(req)
		if l.isDead() {
			return nil, errKilled
		}
		return res, err
	case late, diesAfter:
		if res, err := l.ca.RoundTrip(req); err == nil {
			io.Copy(io.Discard, res.Body)
			res.Body.Close()
		}
		l.end(mode)
	case breaks:
		res := answer(http.StatusInternalServerError, nil, errFault.Error())
		res.Request = req
		return res, nil
	case garbles:
		res, err := l.ca.RoundTrip(req)
		if err == nil {
			res.Body.Close()
			res.Body = io.NopCloser(bytes.NewReader([]byte(`{"injected":`)))
			res.ContentLength = -1
		}
		return res, err
	case panics:
		panic(errFault)
	case hangs:
		<-req.Context().Done()
		return nil, req.Context().Err()
	}
	return nil, errFault
}

func (s *surroundings) setQuiet(quiet bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.quiet = quiet
}

// entries returns what the Cache holds.
func (s *surroundings) entries() map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	entries := make(map[string]string)
	for key := range s.keys {
		if data, err := s.cache.Get(context.Background(), key); err == nil {
			entries[key] = string(data)
		}
	}
	return entries
}
