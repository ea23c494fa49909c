package certmgr

import (
	"fmt"
	"testing"
	"time"
)

// A domain that was left alone for years has no more than its burst.
func TestPaceDoesNotSaveUp(t *testing.T) {
	p, now := newPacer(), time.Now()
	for range 2 {
		n := 0
		for i := range 1000 {
			if _, ok := p.take(fmt.Sprintf("www%d.example.com", i), now); ok {
				n++
			}
		}
		if n != 25 {
			t.Errorf("%d new names at once, want 25", n)
		}
		now = now.Add(10 * 365 * 24 * time.Hour)
	}
}

// What strangers make grow has a cap.
func TestPacerIsBounded(t *testing.T) {
	p, now := newPacer(), time.Now()
	for i := range 2 * maxPaced {
		p.take(fmt.Sprintf("www.stranger%d.com", i), now)
	}
	if n := p.lanes.Len(); n > maxPaced {
		t.Errorf("%d lanes", n)
	}
}
