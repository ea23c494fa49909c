package certmgr

import (
	"crypto/tls"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/auditqueue"
	"github.com/nostall/nostall/internal/text"
)

// counter is a counter for many cores: each addition picks one of several
// cells, so that handshakes do not contend for a cache line.
type counter struct {
	cells [counterCells]struct {
		n atomic.Uint64
		_ [56]byte
	}
}

const counterCells = 8

func (c *counter) add() { c.cells[rand.Uint32()%counterCells].n.Add(1) }

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
	results  [resultCount]struct {
		total counter
		since atomic.Int64  // time of the last event, in Unix nanoseconds; 0 if none
		told  atomic.Uint64 // the part of total reported in events
	}
}

// refusedEvery is the shortest time between two events of one result.
const refusedEvery = time.Minute

func (h *handshakes) count(r result) { h.results[r].total.add() }

// refuse counts a handshake refused at now.
func (h *handshakes) refuse(r result, host string, err error, hello *tls.ClientHelloInfo, now time.Time) {
	c := &h.results[r]
	c.total.add()
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
	e.Decision, e.Rule = r.decision(h.settings)
	h.audit.Emit(e)
}

// reportAll reports the refusals since the last events.
func (h *handshakes) reportAll() {
	for r := resNoServerName; r < resultCount; r++ {
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

// asker describes the client in fields of events.
type asker struct{ remoteAddr, sni, alpn string }

// maxAsked is the longest text of a ClientHello in an event.
const maxAsked = 300

// askerOf returns the client of a hello, in bounded copies of its strings.
func askerOf(hello *tls.ClientHelloInfo) asker {
	a := asker{sni: text.OneLine(hello.ServerName, maxAsked)}
	var alpn strings.Builder
	for i, p := range hello.SupportedProtos {
		if alpn.Len() > maxAsked {
			break
		}
		if i > 0 {
			alpn.WriteByte(',')
		}
		alpn.WriteString(p)
	}
	a.alpn = text.OneLine(alpn.String(), maxAsked)
	if hello.Conn != nil {
		if addr := hello.Conn.RemoteAddr(); addr != nil {
			a.remoteAddr = text.OneLine(addr.String(), maxAsked)
		}
	}
	return a
}

// event returns e with the client's fields.
func (a asker) event(e audit.Event) audit.Event {
	e.RemoteAddr, e.SNI, e.ALPN = a.remoteAddr, a.sni, a.alpn
	return e
}

// issuances counts issuances by outcome.
type issuances struct {
	mu     sync.Mutex
	issued uint64
	failed map[audit.Stage]uint64
	took   DurationHistogram
}

func newIssuances() *issuances {
	i := &issuances{failed: make(map[audit.Stage]uint64)}
	i.took.Bounds = []time.Duration{
		250 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second,
		20 * time.Second, 30 * time.Second, time.Minute, 2 * time.Minute, 5 * time.Minute,
	}
	i.took.Counts = make([]uint64, len(i.took.Bounds)+1)
	return i
}

func (i *issuances) succeeded(took time.Duration) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.issued++
	i.took.add(took)
}

func (i *issuances) failedAt(s audit.Stage) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.failed[s]++
}

func (h *DurationHistogram) add(d time.Duration) {
	n := 0
	for n < len(h.Bounds) && d > h.Bounds[n] {
		n++
	}
	h.Counts[n]++
	h.Sum += max(d, 0)
}

// read copies the counts into v.
func (i *issuances) read(v *Metrics) {
	i.mu.Lock()
	defer i.mu.Unlock()
	v.Issued = i.issued
	for _, stage := range audit.Stages() {
		v.Failed[stage] = i.failed[stage]
	}
	v.TimeToCertificate = DurationHistogram{Bounds: slices.Clone(i.took.Bounds), Counts: slices.Clone(i.took.Counts), Sum: i.took.Sum}
}
