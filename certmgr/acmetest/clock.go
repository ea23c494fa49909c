package acmetest

import "time"

// SetClockSkew sets how far the CA's clock is ahead of time.Now, or behind it
// if d is negative; zero is correct. Use it to test wrong clocks, of the CA or
// of the client.
//
// The CA's clock sets the dates of certificates (with an hour of skew or more a
// new one is not yet valid for the client), the expiry of orders and
// authorizations, the Date header, default renewal windows and Retry-After
// dates. It also decides what has expired, whether a renewal window is open,
// and when rate limits refill. So a jump expires what ends in between. Existing
// dates do not change. Waits and the log of requests do not use this clock, and
// the CA's own certificates keep their dates: valid from a year before the
// start until 30 years after it.
func (s *Server) SetClockSkew(d time.Duration) {
	s.mustBeUsable()
	s.skew.Store(int64(d))
}

// now is the CA's clock, for everything that the CA dates or compares. Waits
// use real time: a CA with a wrong clock does not wait longer.
func (s *Server) now() time.Time { return time.Now().Add(time.Duration(s.skew.Load())) }
