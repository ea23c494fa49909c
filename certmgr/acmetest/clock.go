package acmetest

import "time"

// SetClockSkew makes the CA's clock run ahead of time.Now by d, or behind it if d is negative, from now on; zero is right
// again. It is for clients whose clock is wrong, as seen from the CA, and the other way round.
//
// By its clock the CA dates certificates (one that is issued with an hour of skew or more is not valid yet for the
// client), the expiry of orders and authorizations, the header Date, the default renewal windows and its Retry-After
// dates, and by it it judges what has expired, whether a renewal window is open, and when rate limits refill. So a jump
// ends what expires in between. What was dated before keeps its dates. Waiting is not measured by it, nor is the log of
// requests, and the CA's own certificates, which are valid from a year before the start until 30 years after it, stay as they are.
func (s *Server) SetClockSkew(d time.Duration) { s.skew.Store(int64(d)) }

// now is the CA's clock: everything that the CA dates or judges by time is measured by it. Waiting is not: a CA whose
// clock is wrong does not wait longer.
func (s *Server) now() time.Time { return time.Now().Add(time.Duration(s.skew.Load())) }
