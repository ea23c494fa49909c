package acmeclient

import (
	"net/http"
	"sync"
	"time"
)

// Skew returns how far the CA's clock was ahead of the local one (Config.Now) in
// the last answer that came from the network with a Date (RFC 9110, section
// 6.6.1), and when that was; negative if it was behind. A Date has whole seconds
// and is as old as the answer was under way. ok is false while there was none.
//
// Answers out of an HTTP cache, which have an Age, do not count. A Date without
// sense (outside of the years 1970 to 9999) does not either.
func (ca *CA) Skew() (ahead time.Duration, at time.Time, ok bool) { return ca.skew.get() }

// skew is what the last answer said about the clocks. The zero value is ready. It
// is safe for concurrent use.
type skew struct {
	mu    sync.Mutex // never held across I/O
	ahead time.Duration
	at    time.Time // zero: there was no answer yet
}

func (s *skew) get() (ahead time.Duration, at time.Time, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ahead, s.at, !s.at.IsZero()
}

// note records an answer that was received at now.
func (s *skew) note(h http.Header, now time.Time) {
	date, err := http.ParseTime(h.Get("Date"))
	if err != nil || date.Unix() < 0 || h.Get("Age") != "" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ahead, s.at = date.Sub(now), now
}
