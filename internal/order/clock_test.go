package order

import (
	"testing"
	"time"
)

// A clock that was ahead and was set back does not prolong how long a certificate
// that does not fit keeps another one from being ordered.
func TestClockThatWasAheadDoesNotKeepAnOrderForLonger(t *testing.T) {
	at(t, func(t *testing.T, s *site) {
		fault := s.ca.WrongName(host)
		req := s.request()
		req.Now = func() time.Time { return time.Now().AddDate(1, 0, 0) }
		if _, err := s.run(req); err == nil || s.kept == nil {
			t.Fatalf("kept %+v, %v", s.kept, err)
		}
		fault.Lift()
		if _, err := s.again(); err == nil || s.orders() != 1 {
			t.Fatalf("%d orders at once, %v", s.orders(), err)
		}
		time.Sleep(24 * time.Hour)
		if _, err := s.again(); err != nil || s.orders() != 2 {
			t.Errorf("%d orders after a day, %v", s.orders(), err)
		}
	})
}
