package sim

import (
	"math/rand/v2"
	"time"
)

// moment is an action at an offset from the start.
type moment struct {
	at time.Duration
	do func(w *world)
}

// timeline returns all actions: handshakes, incidents, and long-term changes.
func timeline(rng *rand.Rand, plans []*incidentPlan, hosts int, span time.Duration) []moment {
	var all []moment
	add := func(at time.Duration, do func(w *world)) {
		if at < span {
			all = append(all, moment{at, do})
		}
	}
	for i := range hosts {
		every(rng, 36*time.Hour, span, func(at time.Duration) { add(at, func(w *world) { w.visit(w.hosts[i]) }) })
	}
	// Lifetimes get shorter, by other profiles: 90 days, 45 days, 160 hours.
	add(span*5/10, func(w *world) { w.setProfile("tlsserver") })
	add(span*85/100, func(w *world) { w.setProfile("shortlived") })
	for _, p := range plans {
		var end time.Duration // of the last incident of its kind
		every(rng, p.every, span, func(at time.Duration) {
			i := &incident{incidentPlan: p, host: rng.IntN(hosts), variant: rng.IntN(1 << 16), lasts: p.duration(rng)}
			// No incidents in the last month, so the end can be checked.
			if at+i.lasts > span-30*day {
				return
			}
			// Two oddities together can make a chain longer than clients accept.
			if p.kind == caOdd && at < end {
				return
			}
			end = at + i.lasts
			add(at, func(w *world) { w.beginIncident(i) })
			add(at+i.lasts, func(w *world) { w.endIncident(i) })
			// Extra visits during the incident, and when it should be over.
			for _, after := range []time.Duration{time.Second, time.Minute, time.Hour, i.lasts / 2, i.lasts + time.Second, i.lasts + time.Hour, i.lasts + 31*time.Hour} {
				add(at+after, (*world).visitAll)
			}
		})
	}
	for at := day; at < span; at += day {
		add(at, (*world).checkStored)
	}
	every(rng, 30*day, span, func(at time.Duration) { add(at, func(w *world) { w.checkRequests() }) })
	return all
}

// every calls f at random times, with this average interval.
func every(rng *rand.Rand, mean, span time.Duration, f func(at time.Duration)) {
	for at := wait(rng, mean); at < span; at += wait(rng, mean) {
		f(at)
	}
}

func wait(rng *rand.Rand, mean time.Duration) time.Duration {
	return time.Duration(rng.ExpFloat64() * float64(mean))
}

// duration returns a random duration within the plan's bounds, log-uniformly.
func (p *incidentPlan) duration(rng *rand.Rand) time.Duration {
	if p.most == 0 {
		return 0
	}
	return logUniform(rng, p.least, p.most)
}
