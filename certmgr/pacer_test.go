package certmgr

import (
	"fmt"
	"testing"
	"time"

	"github.com/nostall/nostall/internal/pace"
)

// A domain that was left alone for years has no more than its burst.
func TestPaceDoesNotSaveUp(t *testing.T) {
	p, ran := newPacer(), time.Hour
	for range 2 {
		n := 0
		for i := range 1000 {
			if _, ok := p.take(fmt.Sprintf("www%d.example.com", i), ran); ok {
				n++
			}
		}
		if n != 25 {
			t.Errorf("%d new names at once, want 25", n)
		}
		ran += 10 * 365 * 24 * time.Hour
	}
}

// What strangers make grow has a cap.
func TestPacerIsBounded(t *testing.T) {
	p, ran := newPacer(), time.Hour
	for i := range 2 * maxPaced {
		p.take(fmt.Sprintf("www.stranger%d.com", i), ran)
	}
	if n := p.lanes.Len(); n > maxPaced {
		t.Errorf("%d lanes", n)
	}
}

// A process that was frozen, or an outage of the CA, lets turns pass unused. Later
// no more begin at once than from the start, and those that wait go on in turn.
func TestTurnsThatPassedAreNotUsedAllAtOnce(t *testing.T) {
	for _, hosts := range []string{"www%d.example%[1]d.com", "www%d.example.com"} {
		p := &startPace{every: pace.OrderEvery}
		burst, every := pace.OrderBurst, pace.OrderEvery
		if hosts == "www%d.example.com" {
			burst, every = pace.DomainBurst, pace.DomainEvery
		}
		places := make(map[string]*place)
		for i := range 3 * pace.OrderBurst {
			places[fmt.Sprintf(hosts, i)] = new(place)
		}
		ran := time.Minute
		for _, frozen := range []time.Duration{0, 1000 * every, maxLate / 2, 2 * maxLate} {
			ran += frozen
			n := 0
			soonest := 1000 * every
			for host, pl := range places {
				wait := p.wait(host, pl, ran)
				if wait == 0 {
					delete(places, host)
					n++
					continue
				}
				soonest = min(soonest, wait)
			}
			most := burst
			if frozen > 0 && frozen < 100*every {
				most = int(frozen/every) + 1
			}
			if n > most || frozen >= 1000*every && n != most {
				t.Errorf("%s: %d begin after %v, want %d", hosts, n, frozen, most)
			}
			if len(places) > 0 && soonest > every {
				t.Errorf("%s: after %v the next one begins in %v, want at most %v", hosts, frozen, soonest, every)
			}
		}
	}
}
