package sim

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
)

// visit is one handshake and its result.
type visit struct {
	host       *host
	process    *process
	generation int
	begin      time.Time
	local      time.Time // the same by the machine's wall clock
	took       time.Duration
	cert       *tls.Certificate
	err        error
}

// longest is the longest allowed handshake: HandshakeWait, and the time-out of
// the cache read before it.
const longest = 10*time.Second + 5*time.Second

// attempt is longer than any issuance.
const attempt = 5 * time.Minute

// check checks a visit.
func (w *world) check(v visit) {
	time.Sleep(time.Nanosecond) // virtual: the visit's events are delivered meanwhile
	w.mu.Lock()
	defer w.mu.Unlock()
	if v.took > longest {
		w.violatedLocked(v.host, "the handshake took %v", v.took)
	}
	if v.generation != w.generation || v.process.isDead() || v.host.since.After(v.begin) {
		return // a restart, a kill or a change of the list
	}
	switch {
	case w.checkOwn(v):
	case !v.host.allowed:
		w.checkNotAllowed(v)
	case v.err != nil:
		w.checkRefused(v)
	default:
		w.checkServed(v)
	}
}

// checkNotAllowed: a host that is not on the list is refused. w.mu is held.
func (w *world) checkNotAllowed(v visit) {
	h := v.host
	if !errors.Is(v.err, certmgr.ErrHostNotAllowed) && !(isAddress(h.name) && errors.Is(v.err, certmgr.ErrNoServerName)) {
		w.violatedLocked(h, "a visitor of a host off the list got %v", v.err)
	}
}

// checkRefused: no handshake is refused while there is a certificate, or could
// be one. w.mu is held.
func (w *world) checkRefused(v visit) {
	h := v.host
	switch {
	case h.served != nil && h.servedAt.Before(v.begin) && v.local.Before(h.served.NotAfter):
		w.violatedLocked(h, "refused although a certificate valid to %v is in memory: %v", h.served.NotAfter, v.err)
	case len(h.trouble) > 0 || v.begin.Before(h.healthy):
		// An issuance that waits for its slot has no event yet, but the error
		// shows it.
		if !errors.Is(v.err, certmgr.ErrInFlight) && !w.p.ledger.explains(h.name) {
			w.violatedLocked(h, "no event tells why visitors get: %v", v.err)
		}
	case errors.Is(v.err, certmgr.ErrInFlight) && (time.Since(w.started) < attempt || w.p.ledger.issuing(h.name)):
		// Another handshake or Start began it.
	case w.isActive(lostExchange) && w.p.ledger.lostExchange():
		// It costs seconds.
	default:
		w.violatedLocked(h, "refused without need: %v", v.err)
	}
}

// checkServed: the served certificate is correct. w.mu is held.
func (w *world) checkServed(v visit) {
	h, leaf := v.host, v.cert.Leaf
	truth := v.local.Add(w.skew)
	if serial := leaf.SerialNumber.String(); h.verified != serial { // verify once: it is the most expensive check
		_, err := leaf.Verify(x509.VerifyOptions{DNSName: h.name, Roots: w.ca.Roots(), Intermediates: pool(v.cert.Certificate[1:]),
			CurrentTime: leaf.NotBefore.Add(time.Minute)})
		if err != nil {
			w.violatedLocked(h, "served a wrong certificate: %v", err)
		}
		h.verified = serial
	}
	if !truth.Before(leaf.NotAfter) && !w.isActive(clockOff) && v.begin.After(h.healthy) {
		w.violatedLocked(h, "served a certificate that ended at %v", leaf.NotAfter)
	}
	if v.local.After(leaf.NotAfter) {
		w.violatedLocked(h, "served a certificate that ended at %v by the local clock", leaf.NotAfter)
	}
	if at, ok := h.revoked[leaf.SerialNumber.String()]; ok && v.begin.After(at) {
		w.violatedLocked(h, "served a certificate that was revoked at %v, as announced", at)
	}
	if (h.served == nil || !h.served.Equal(leaf)) && !w.p.ledger.has(h.name, leaf.NotAfter) {
		w.violatedLocked(h, "no event tells of the certificate to %v", leaf.NotAfter)
	}
	if h.served == nil || !h.served.Equal(leaf) {
		h.served, h.servedAt = leaf, time.Now()
	}
}

func (w *world) isActive(kind incidentKind) bool {
	for i := range w.active {
		if i.kind == kind {
			return true
		}
	}
	return false
}

func pool(chain [][]byte) *x509.CertPool {
	p := x509.NewCertPool()
	for _, der := range chain {
		if c, err := x509.ParseCertificate(der); err == nil {
			p.AddCert(c)
		}
	}
	return p
}

// checkRequests checks the CA's log since the last time for refusals that the
// test did not request, and for requests about hosts off the list.
func (w *world) checkRequests() {
	byName := make(map[string]*host)
	for _, h := range w.hosts {
		byName[h.name] = h
	}
	waits := make(map[waiting]time.Time)
	for _, r := range w.ca.ForgetRequests() {
		w.requests++
		w.checkRetryAfter(r, waits)
		if r.Fault == "" && r.Status == http.StatusTooManyRequests {
			w.violated(nil, "a limit of the CA was exceeded at %v: %s %s: %s", r.Time.Sub(w.begin), r.Endpoint, r.Host, r.Detail)
		}
		if h := byName[r.Host]; h != nil && r.Endpoint == acmetest.NewOrder {
			w.checkQuiet(h, r.Time)
		}
		if h := byName[r.Host]; h != nil && h.wasOffList(r.Time) {
			w.violated(h, "a request to %s at %v about a host off the list", r.Endpoint, r.Time.Sub(w.begin))
		}
	}
	if n := len(w.ca.Accounts()); n > w.accounts {
		w.violated(nil, "%d accounts were registered, want %d", n, w.accounts)
	}
}

// waiting is what the CA asked to wait with: an endpoint, for a host.
type waiting struct {
	endpoint acmetest.Endpoint
	host     string
}

// checkRetryAfter checks that a Retry-After is obeyed. waits holds until when.
func (w *world) checkRetryAfter(r acmetest.Request, waits map[waiting]time.Time) {
	key := waiting{r.Endpoint, r.Host}
	if until := waits[key]; r.Time.Before(until) {
		w.violated(nil, "a request to %s for %s at %v, although the CA had asked to wait until %v", r.Endpoint, r.Host, r.Time.Sub(w.begin), until.Sub(w.begin))
	}
	if w.retryAfter > 0 && r.Fault == "Status" && (r.Status == http.StatusTooManyRequests || r.Status == http.StatusServiceUnavailable) {
		waits[key] = r.Time.Add(w.retryAfter)
	}
}

// wasOffList reports whether the host was off the list at some time for longer
// than an attempt.
func (h *host) wasOffList(at time.Time) bool {
	for _, off := range h.absences {
		if at.After(off.from.Add(attempt)) && at.Before(off.to) {
			return true
		}
	}
	return !h.allowed && at.After(h.since.Add(attempt))
}

func (w *world) violated(h *host, format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.violatedLocked(h, format, args...)
}

// violationMark begins the line of a report that says how to reproduce it.
const violationMark = "again: go test ./internal/sim -run "

// violatedLocked reports a violation and everything needed to reproduce it.
func (w *world) violatedLocked(h *host, format string, args ...any) {
	w.t.Helper()
	w.violations++
	if w.violations > 3 {
		return
	}
	name, recent := "", ""
	if h != nil {
		name, recent = h.name+": ", w.p.ledger.last(h.name)
	}
	var active []string
	for i := range w.active {
		active = append(active, i.name)
	}
	slices.Sort(active)
	w.t.Errorf("day %.4f: "+name+format+"\n\tgoing on: %s\n\tlast events: %s"+
		"\n\t"+violationMark+"%s",
		append([]any{time.Since(w.begin).Hours() / 24}, append(args, strings.Join(active, ", "), recent, w.again)...)...)
}

func (w *world) failed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.violations >= 3
}
