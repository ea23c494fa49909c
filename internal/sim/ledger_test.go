package sim

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nostall/nostall/certmgr/audit"
)

// ledger records one Manager's events.
type ledger struct {
	mu       sync.Mutex
	seq      uint64
	open     map[string]string    // host and key type to the attempt in flight
	begun    map[string]time.Time // host to the start of its last attempt
	ends     map[string]map[int64]bool
	failed   map[string]bool // hosts with a reported failure
	caFailed bool
	caDown   time.Time // when the CA was last reported to be out of service
	recent   map[string][]string
	closed   bool
	muted    bool // the process was killed
	wrong    []string
}

func newLedger() *ledger {
	return &ledger{open: make(map[string]string), begun: make(map[string]time.Time), ends: make(map[string]map[int64]bool),
		failed: make(map[string]bool), recent: make(map[string][]string)}
}

// lostExchangeCosts is how long visitors may be refused because of one exchange
// that failed: until the CA is probed again.
const lostExchangeCosts = 20 * time.Second

// lostExchange reports whether the CA was reported to be out of service a moment
// ago.
func (l *ledger) lostExchange() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.caDown.IsZero() && time.Since(l.caDown) < lostExchangeCosts
}

// hook is Manager.Audit.
func (l *ledger) hook(_ context.Context, e audit.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.muted {
		return
	}
	if l.seq++; e.Seq != l.seq {
		l.wrongf("event %d follows event %d", e.Seq, l.seq-1)
		l.seq = e.Seq
	}
	if l.closed {
		l.wrongf("an event after the last: %v", e)
	}
	for _, host := range append(strings.Fields(e.Names), e.Host) {
		if host == "" {
			continue
		}
		l.recent[host] = append(l.recent[host], e.String())
		if n := len(l.recent[host]); n > 6 {
			l.recent[host] = l.recent[host][n-6:]
		}
		l.note(host, e)
	}
	key := e.Host + " " + e.KeyType
	switch e.Kind {
	case audit.IssuanceStarted:
		if other := l.open[key]; other != "" {
			l.wrongf("attempt %s for %s began before %s had ended", e.Attempt, key, other)
		}
		l.open[key] = e.Attempt
	case audit.CertificateIssued, audit.IssuanceFailed:
		if e.Stage == audit.StageQueue {
			break // it never began
		}
		if l.open[key] != e.Attempt {
			l.wrongf("attempt %s for %s ended, which did not begin", e.Attempt, key)
		}
		delete(l.open, key)
	case audit.IssuanceCanceled: // perhaps before it began
		if l.open[key] == e.Attempt {
			delete(l.open, key)
		}
	case audit.CAUnavailable, audit.AccountUnavailable, audit.CacheReadFailed, audit.ConfigurationWarning:
		l.caFailed = true
		if e.Kind == audit.CAUnavailable {
			l.caDown = time.Now()
		}
	case audit.ManagerClosed:
		l.closed = true
	}
}

// note notes what an event says of a host. l.mu is held.
func (l *ledger) note(host string, e audit.Event) {
	if e.IsFailure() {
		l.failed[host] = true
	}
	switch e.Kind {
	case audit.IssuanceStarted:
		l.begun[host] = time.Now()
	case audit.CertificateIssued, audit.CertificateLoaded, audit.OwnCertificateLoaded:
		if l.ends[host] == nil {
			l.ends[host] = make(map[int64]bool)
		}
		l.ends[host][e.NotAfter.Unix()] = true
	}
}

func (l *ledger) wrongf(format string, args ...any) {
	l.wrong = append(l.wrong, fmt.Sprintf(format, args...))
}

// mute ignores all further events.
func (l *ledger) mute() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.muted = true
}

// has reports whether an event reported a host's certificate with this expiry.
func (l *ledger) has(host string, end time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ends[host][end.Unix()]
}

// explains reports whether an event reported a failure of the host or of the
// CA.
func (l *ledger) explains(host string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.caFailed || l.failed[host] || time.Since(l.begun[host]) < attempt
}

// issuing reports whether an issuance for the host is in flight or has just
// ended.
func (l *ledger) issuing(host string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Since(l.begun[host]) < attempt
}

// last returns the last events about a host.
func (l *ledger) last(host string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return "\n\t\t" + strings.Join(l.recent[host], "\n\t\t")
}

// close returns the violations, after the Manager has ended.
func (l *ledger) close() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed && !l.muted {
		l.wrongf("no event tells of Close")
	}
	return l.wrong
}
