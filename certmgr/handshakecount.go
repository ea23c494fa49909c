package certmgr

import (
	"crypto/tls"
	"reflect"
	"sync/atomic"
	"time"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/auditqueue"
)

// counter is a counter for many cores. An addition picks one of several cells,
// each in a cache line of its own.
type counter struct {
	cells [counterCells]struct {
		n atomic.Uint64
		_ [56]byte
	}
}

const counterCells = 16

// spanSize is the size of the blocks from which Go allocates small objects. Each
// processor has a block of its own for each size.
const spanSize = 8 << 10

// add adds one, on behalf of a handshake whose result has just been allocated.
// Its address picks the cell, so one core picks the same cell for many
// handshakes in a row, and another core another one: a random cell would mostly
// be in another core's cache. If the result is not a pointer, or the same for
// all, that costs some time, and any cell counts right.
func (c *counter) add(result any) {
	var address uintptr
	if v := reflect.ValueOf(result); v.Kind() == reflect.Pointer {
		address = v.Pointer()
	}
	c.cells[address/spanSize%counterCells].n.Add(1)
}

func (c *counter) load() uint64 {
	var n uint64
	for i := range c.cells {
		n += c.cells[i].n.Load()
	}
	return n
}

// handshakes counts handshakes by result, without a lock, and reports refused
// ones: one event a minute for each result, whatever scanners do.
type handshakes struct {
	settings *settings
	audit    *auditqueue.Queue
	unnamed  atomic.Bool // a client without SNI may have got a certificate
	results  [resultCount]struct {
		total counter
		since atomic.Int64  // time of the last event, in Unix nanoseconds; 0 if none
		told  atomic.Uint64 // the part of total reported in events
	}
}

// refusedEvery is the shortest time between two events of one result.
const refusedEvery = time.Minute

// served counts a handshake that gets a certificate.
func (h *handshakes) served(r result, cert *tls.Certificate) *tls.Certificate {
	h.results[r].total.add(cert)
	return cert
}

// refuse counts a handshake refused at now.
func (h *handshakes) refuse(r result, host string, err error, hello *tls.ClientHelloInfo, now time.Time) {
	c := &h.results[r]
	c.total.add(err)
	last, t := c.since.Load(), now.UnixNano()
	// now may lie before the last event, for a handshake that began earlier.
	// Further back means that the clock was set back: report then.
	if since := t - last; last != 0 && since > -int64(refusedEvery) && since < int64(refusedEvery) {
		return
	}
	if c.since.CompareAndSwap(last, t) {
		h.report(r, askerOf(hello).event(audit.Event{Host: host, Err: err}))
	}
}

// report emits an event of the refusals since the last one, with an example.
func (h *handshakes) report(r result, e audit.Event) {
	c := &h.results[r]
	total := c.total.load()
	n := total - c.told.Swap(total)
	if n == 0 || n > total {
		return
	}
	e.Kind, e.Result, e.Count = audit.HandshakesRefused, audit.Results()[r], int(n)
	if r == resFallback {
		e.Kind = audit.FallbackServed
	}
	e.Decision, e.Rule = r.decision(h.settings)
	h.audit.Emit(e)
}

// reportAll reports the refusals since the last events.
func (h *handshakes) reportAll() {
	for r := resFallback; r < resultCount; r++ {
		h.report(r, audit.Event{})
	}
}

// all returns the number of handshakes by result.
func (h *handshakes) all() map[audit.Result]uint64 {
	all := make(map[audit.Result]uint64, resultCount)
	for i, name := range audit.Results() {
		all[name] = h.results[i].total.load()
	}
	return all
}

func (h *handshakes) refused() uint64 {
	var n uint64
	for r := resNoServerName; r < resultCount; r++ {
		n += h.results[r].total.load()
	}
	return n
}
