package acmetest

import "time"

// now is the CA's clock: everything that the CA dates or judges by time is measured by it. Waiting is not: a CA whose
// clock is wrong does not wait longer.
func (s *Server) now() time.Time { return time.Now().Add(time.Duration(s.skew.Load())) }
