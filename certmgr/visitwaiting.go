package certmgr

import "time"

// waitTimes are the times in visits since which hosts wait for DNS.
type waitTimes struct{ *visits }

// begin notes that a host on the list waits for DNS. If it did before a
// restart, it has waited since then.
func (v waitTimes) begin(host string, now time.Time) {
	if v.get(host, listed, now).waiting.CompareAndSwap(0, now.Unix()) {
		v.noteChange()
	}
}

// end notes that a host no longer waits for DNS.
func (v waitTimes) end(host string) {
	if known := v.hosts.Get(host); known != nil {
		known.led.Store(true)
		known.waiting.Store(0)
		v.noteChange()
	}
}

// since returns since when a host waits for DNS, perhaps from before a
// restart. If that is not known it is t.
func (v waitTimes) since(host string, t time.Time) time.Time {
	if known := v.hosts.Get(host); known != nil {
		if since := known.waiting.Load(); since != 0 {
			return fromUnix(since)
		}
	}
	return t
}

// mergeWaiting merges what the Cache has of the wait of an entry. It is over if the
// entry was reached since, or if this process has seen its end.
func (known *visit) mergeWaiting(seen sightings, now time.Time) {
	t := seen.Waiting.Unix()
	if seen.Waiting.IsZero() || seen.Waiting.After(now) || known.fresh || known.led.Load() || t <= known.reached.Load() {
		return
	}
	if have := known.waiting.Load(); have == 0 || t < have {
		known.waiting.Store(t)
	}
}
