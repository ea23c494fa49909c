package certmgr

import (
	"crypto/x509"
	"errors"
	"testing"
	"time"

	"github.com/nostall/nostall/internal/acmeclient"
)

// So many are looked at side by side and no more; the rest stays in order.
func TestAgendaBoundsItsWorkers(t *testing.T) {
	a := &agenda{limit: 2}
	for _, at := range []int64{30, 10, 50, 20, 40} {
		a.set(&appointment{index: -1}, at)
	}
	take := func(now, want int64) {
		t.Helper()
		p, wait := a.next(now)
		switch {
		case want == 0 && p != nil:
			t.Errorf("at %d the appointment of %d is kept, want none", now, p.at)
		case want == 0 && wait <= 0:
			t.Errorf("at %d there is nothing to do for %v", now, wait)
		case want != 0 && (p == nil || p.at != want):
			t.Errorf("at %d got %v, want the appointment of %d", now, p, want)
		}
	}
	take(5, 0) // nothing is due
	take(100, 10)
	take(100, 20)
	take(100, 0) // no worker is free
	a.busy--
	take(100, 30)
	a.cancel(a.heap[0])
	a.busy--
	take(100, 50)
}

// While the CA cannot be asked any more the sooner of its window and the age
// counts.
func TestPlanWhileTheCACannotBeAsked(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	leaf := &x509.Certificate{NotBefore: now, NotAfter: now.Add(90 * day)}
	cert := &certificate{served: served{leaf: leaf}, notBefore: leaf.NotBefore, notAfter: leaf.NotAfter}
	p := planFor(cert, 0, now)
	p.suggest(acmeclient.RenewalInfo{Start: now.Add(72 * day), End: now.Add(73 * day)})
	if at := p.due(); at.Before(now.Add(72 * day)) {
		t.Errorf("due %v although the CA suggests a later time", at)
	}
	p.failed = 1
	if at := p.due(); !at.Equal(p.byAge) {
		t.Errorf("due %v while the CA cannot be asked, want %v, by age", at, p.byAge)
	}
}

func TestAskAfterFailure(t *testing.T) {
	temporary := &acmeclient.RequestError{Method: "GET", URL: "https://ca.example", Err: errors.New("connection refused")}
	tests := []struct {
		name        string
		err         error
		failed      int
		least, most time.Duration
	}{
		{"first", temporary, 1, askRetry, askRetry * 11 / 10},
		{"third", temporary, 3, 4 * askRetry, 4 * askRetry * 11 / 10},
		{"hundredth", temporary, 100, askEvery, askEvery * 11 / 10},
		{"not temporary", errors.New("no window"), 1, askEvery, askEvery * 11 / 10},
		{"no renewal information", acmeclient.ErrNoRenewalInfo, 1, askLatest, askLatest * 11 / 10},
	}
	for _, tt := range tests {
		for range 50 {
			if d := askAfterFailure(tt.err, tt.failed); d < tt.least || d > tt.most {
				t.Errorf("%s: asked again after %v, want %v to %v", tt.name, d, tt.least, tt.most)
			}
		}
	}
}
