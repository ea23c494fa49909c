package certmgr

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/flight"
	"github.com/nostall/nostall/internal/pace"
	"github.com/nostall/nostall/internal/text"
)

const (
	// ownEvery is the default of Manager.CertificatesEvery.
	ownEvery = 10 * time.Second

	// ownMarksEvery is how often certificates are looked at that are about to
	// expire, if Manager.CertificatesEvery is longer.
	ownMarksEvery = time.Hour

	// ownFirstTimeout is the time-out of the first call, for which handshakes
	// wait, and ownTimeout that of the others.
	ownFirstTimeout = 5 * time.Second
	ownTimeout      = time.Minute
)

// ownWatch asks the source of the operator's own certificates again and again,
// puts them into service, and has issuance take over from those that expire or
// are taken away. Only its goroutine uses its fields.
type ownWatch struct {
	*env
	memory   *memory
	schedule *schedule
	calls    *flight.Callouts

	told   map[string]string    // the last rejection reported, by name; "" for the source as a whole
	passed map[*ownCert]ownMark // what was reported of certificates in service that expire
}

// ownMark is how far a certificate has got towards its end.
type ownMark uint8

const (
	ownFresh ownMark = iota
	ownHandover
	ownLate
	ownExpired
)

func (c *ownCert) mark(now time.Time) ownMark {
	switch {
	case now.After(c.notAfter):
		return ownExpired
	case !now.Before(c.late):
		return ownLate
	case !now.Before(c.handover):
		return ownHandover
	}
	return ownFresh
}

// watchOwn begins to watch, if there is a source.
func (e *engine) watchOwn(w *ownWatch) {
	if e.own == nil {
		return
	}
	w.told, w.passed = make(map[string]string), make(map[*ownCert]ownMark)
	if !e.tasks.Go(w.run) {
		close(e.own.ready)
	}
}

func (w *ownWatch) run(ctx context.Context) {
	w.look(ctx, ownFirstTimeout)
	close(w.own.ready)
	every := w.settings.certificatesEvery
	for asked := time.Now(); ; {
		wait := ownMarksEvery
		if every > 0 {
			wait = min(wait, every-time.Since(asked))
		}
		if flight.Sleep(ctx, wait) != nil {
			return
		}
		if every > 0 && time.Since(asked) >= every {
			w.look(ctx, ownTimeout)
			asked = time.Now()
		} else {
			w.passMarks()
		}
	}
}

// look asks the source once.
func (w *ownWatch) look(ctx context.Context, timeout time.Duration) {
	before := w.own.index.Load()
	check := &ownCheck{renewBefore: w.settings.renewBefore, now: w.now()}
	if before != nil {
		check.serving = before.byName
	}
	in, cancel := flight.Within(ctx, timeout, "no answer")
	defer cancel()
	answer, err := flight.CallOut(in, w.calls, "all", func(ctx context.Context) ([]checked, error) {
		list, err := w.settings.certificates(ctx)
		if err != nil {
			return nil, err
		}
		return check.all(list)
	})
	switch {
	case ctx.Err() != nil:
		return
	case err == nil:
		w.tell("", audit.Event{}, nil)
		w.own.failed.Store(nil)
		w.apply(before, answer)
	case !errors.Is(err, ErrBusy): // a call that has not returned was reported
		err = fmt.Errorf("Manager.Certificates: %w", err)
		why := text.Line(text.Of(err), text.MaxError)
		w.tell("", audit.Event{Reason: "what was served is served on"}, err)
		w.own.failed.Store(&why)
	}
	w.passMarks()
}

// tell reports a rejection, or notes that there is none any more.
func (w *ownWatch) tell(name string, e audit.Event, err error) {
	if err == nil {
		delete(w.told, name)
		return
	}
	why := text.Of(err)
	if w.told[name] == why {
		return
	}
	w.told[name] = why
	e.Kind, e.Rule, e.Err = audit.OwnCertificateRejected, "Certificates", err
	w.audit.Emit(e)
}

// apply puts an answer into service.
func (w *ownWatch) apply(before *ownIndex, answer []checked) {
	if before == nil {
		before = new(ownIndex)
	}
	now := w.now()
	x := &ownIndex{exact: make(map[string]*ownedName), wild: make(map[string]*ownedName), byName: make(map[string]*ownCert)}
	named := make(map[string]bool)
	for _, c := range answer {
		named[c.name] = true
		have := before.byName[c.name]
		switch {
		case c.err == nil:
			x.byName[c.name] = c.cert
			w.tell(c.name, audit.Event{}, nil)
			if c.cert != have {
				w.audit.Emit(w.event(audit.OwnCertificateLoaded, c.cert, "from "+c.cert.where()))
			}
			continue
		case have != nil && have.isValid(now):
			x.byName[c.name] = have
			w.tell(c.name, w.event(audit.OwnCertificateRejected, have, "the one before stays in service until it expires"), withName(c))
		default:
			w.tell(c.name, audit.Event{Reason: "no certificate of this origin is in service"}, withName(c))
		}
		r := ownRejection{name: c.name, err: c.err}
		if _, expired := errors.AsType[expiredOwn](c.err); expired {
			r.expired = c.cert
		}
		r.err = withName(c)
		x.rejected = append(x.rejected, r)
	}
	for name := range w.told {
		if name != "" && !named[name] {
			delete(w.told, name)
		}
	}
	var gone []*ownCert
	for name, c := range before.byName {
		if !named[name] {
			gone = append(gone, c)
			w.audit.Emit(w.event(audit.OwnCertificateRemoved, c, "it is no longer among Manager.Certificates: "+c.where()))
		} else if x.byName[name] != c {
			gone = append(gone, c) // the one in its place may have other names
		}
	}
	x.fill(before)
	w.own.index.Store(x)
	w.released(gone, now)
}

// withName returns the error of a certificate with its name, unless it has that.
func withName(c checked) error {
	if strings.Contains(text.Of(c.err), c.name) {
		return c.err
	}
	return fmt.Errorf("%s: %w", c.name, c.err)
}

// fill makes the names of an index from its certificates.
func (x *ownIndex) fill(before *ownIndex) {
	for _, c := range x.byName {
		for _, name := range c.names {
			in, old := x.exact, before.exact
			if base, wild := strings.CutPrefix(name, "*."); wild {
				name, in, old = base, x.wild, before.wild
			}
			n := in[name]
			if n == nil {
				n = new(ownedName)
				if had := old[name]; had != nil {
					n.visited.Store(had.visited.Load())
				}
				in[name] = n
			}
			if !slices.Contains(n.certs, c) {
				n.certs = append(n.certs, c)
			}
		}
	}
	for _, in := range []map[string]*ownedName{x.exact, x.wild} {
		for _, n := range in {
			slices.SortFunc(n.certs, func(a, b *ownCert) int {
				if d := b.notAfter.Compare(a.notAfter); d != 0 {
					return d
				}
				return strings.Compare(a.source, b.source)
			})
		}
	}
}

// passMarks reports the certificates in service that have come closer to their
// end, and has issuance take over.
func (w *ownWatch) passMarks() {
	x, now := w.own.index.Load(), w.now()
	if x == nil {
		return
	}
	passed := make(map[*ownCert]ownMark)
	for _, c := range x.byName {
		passed[c] = c.mark(now)
		if passed[c] > w.passed[c] {
			w.report(c, passed[c], now)
		}
	}
	for c, mark := range w.passed {
		if _, served := passed[c]; !served && mark < ownExpired && c.mark(now) == ownExpired {
			w.report(c, ownExpired, now)
		}
	}
	w.passed = passed
}

// report emits the event of a certificate that expires.
func (w *ownWatch) report(c *ownCert, mark ownMark, now time.Time) {
	if mark == ownExpired {
		w.audit.Emit(w.event(audit.CertificateExpired, c, "it is the operator's own, from "+c.where()))
		return
	}
	w.takeOver(slices.Values(c.names), now)
	then := "a certificate of the CA takes its place for the names on Manager.Hosts"
	if !slices.ContainsFunc(c.names, func(name string) bool { return w.settings.trustOf(name) == listed }) && !strings.HasPrefix(c.names[0], "*.") {
		then = "replace it: no other certificate takes its place, since none of its names is on Manager.Hosts"
	}
	w.audit.Emit(w.event(audit.OwnCertificateExpiring, c, fmt.Sprintf("it ends in %v, and is from %s; %s",
		c.notAfter.Sub(now).Round(time.Minute), c.where(), then)))
}

// released has issuance take over from certificates that were taken away before
// their handover.
func (w *ownWatch) released(gone []*ownCert, now time.Time) {
	for _, c := range gone {
		if c.mark(now) == ownFresh {
			w.takeOver(slices.Values(c.names), now)
		}
	}
}

// takeOver has certificates issued for the hosts on the list, among names, that
// had one of the operator's own and lack one now, or will soon.
func (w *ownWatch) takeOver(names iter.Seq[string], now time.Time) {
	for name := range names {
		base, wild := strings.CutPrefix(name, "*.")
		if !wild {
			w.takeOverHost(name, now)
			continue
		}
		for host := range w.settings.hosts.all() {
			if _, parent, _ := strings.Cut(host, "."); parent == base {
				w.takeOverHost(host, now)
			}
		}
	}
}

func (w *ownWatch) takeOverHost(host string, now time.Time) {
	if w.settings.trustOf(host) != listed || w.own.until(host, now).After(now) {
		return
	}
	have := w.memory.certificates(host)
	for _, c := range have {
		takeOver(w.schedule, c.subject, now)
	}
	if len(have) == 0 {
		takeOver(w.schedule, w.subject(host, w.settings.keyTypeOf(host).Algorithm()), now)
	}
}

// postpone sets when schedule looks at a subject again that has a certificate.
func postpone(r *schedule, sub subject, t time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if it := r.items.Get(sub); it != nil {
		r.setRenew(it, it.kind, t)
	}
}

// takeOver makes a subject due whose certificate was postponed, as its plan
// says. One without a certificate is issued for, as if by a Start.
func takeOver(r *schedule, sub subject, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	it := r.item(sub)
	switch {
	case r.memory.current(sub) == nil:
		it.owed = true
		if !it.renew.IsSet() {
			r.setRenew(it, agendaRenew, now)
		}
	case it.renew.IsSet() && !it.plan.IsZero():
		r.setRenew(it, it.kind, pace.Earlier(it.renew.At(), pace.Later(it.plan.Due(), now)))
	}
}

// where says where a certificate is from and which names it has.
func (c *ownCert) where() string {
	return text.OneLine(fmt.Sprintf("%s, for %s", c.source, strings.Join(c.names, ", ")), text.MaxError/2)
}

// event returns an event about a certificate.
func (w *ownWatch) event(kind audit.Kind, c *ownCert, reason string) audit.Event {
	return audit.Event{
		Kind:     kind,
		Host:     c.names[0],
		KeyType:  c.keyType,
		Rule:     "Certificates",
		Reason:   reason,
		Serial:   serialOf(c.cert.Leaf),
		NotAfter: c.notAfter,
	}
}
