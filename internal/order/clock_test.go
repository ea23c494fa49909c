package order

import (
	"crypto/x509"
	"errors"
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

// An order is placed instead of one whose certificate has expired. If it is the same
// with that, the CA's dates or the clock are wrong: a conversation places two at most.
func TestExpiredCertificateIsOrderedOnceMore(t *testing.T) {
	for name, expired := range map[string]int{"once": 1, "always": 10} {
		for how, earlier := range map[string]func(*site){"same conversation": func(*site) {}, "earlier one": func(s *site) { s.stop() }} {
			t.Run(name+", "+how, func(t *testing.T) {
				at(t, func(t *testing.T, s *site) {
					earlier(s)
					req, left := s.request(), expired
					req.Unfinished = s.kept
					req.Accept = func(placed time.Time, _ [][]byte, leaf *x509.Certificate) error {
						if placed.After(time.Now()) || placed.Before(leaf.NotBefore) {
							t.Errorf("placed at %v", placed)
						}
						if left--; left >= 0 {
							return ErrExpired
						}
						return nil
					}
					_, err := s.run(req)
					if expired == 1 && (err != nil || s.orders() != 2) {
						t.Errorf("%d orders, %v", s.orders(), err)
					}
					if expired > 1 && (!errors.Is(err, ErrExpired) || s.orders() > 3 || s.kept != nil) {
						t.Errorf("%d orders, %v, kept %+v", s.orders(), err, s.kept)
					}
				})
			})
		}
	}
}
