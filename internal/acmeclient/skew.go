package acmeclient

import (
	"net/http"
	"sync"
	"time"
)

// Skew returns how far the CA's clock was ahead of the local one (Config.Now),
// negative if it was behind, and when that was measured. It is from the last
// response from the network with a Date (RFC 9110, section 6.6.1), which has
// whole seconds and is as old as the response took to arrive. ok is false if
// there was none.
//
// Responses from an HTTP cache, which have an Age, do not count, nor does a
// Date outside the years 1970 to 9999.
func (ca *CA) Skew() (ahead time.Duration, at time.Time, ok bool) { return ca.skew.get() }

// skew is the result of the last comparison of the clocks. The zero value is
// ready. It is safe for concurrent use.
type skew struct {
	mu    sync.Mutex // never held across I/O
	ahead time.Duration
	at    time.Time // zero before the first response
}

func (s *skew) get() (ahead time.Duration, at time.Time, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ahead, s.at, !s.at.IsZero()
}

// note records a response received at now.
func (s *skew) note(h http.Header, now time.Time) {
	date, ok := dateOf(h)
	if !ok {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ahead, s.at = date.Sub(now), now
}

// dateOf returns the time of a response by the CA's clock.
func dateOf(h http.Header) (date time.Time, ok bool) {
	date, err := http.ParseTime(h.Get("Date"))
	return date, err == nil && date.Unix() >= 0 && h.Get("Age") == ""
}
