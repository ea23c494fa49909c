package certmgr

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/pace"
	"github.com/nostall/nostall/internal/text"
)

// sharedWaits keeps in the Cache what the machines of a fleet find out about hosts
// that wait for DNS: one of them looks at a host, and the others go by that. Of the
// same machine they do so once, and then look themselves: its resolver may be wrong.
type sharedWaits struct {
	*env
	store *store
}

// waitRecord is the JSON form of the last look at a host that waits for DNS, in the
// Cache under the host's key and "+dns".
type waitRecord struct {
	Host    string       `json:"host"`
	Since   time.Time    `json:"since"`
	Looked  time.Time    `json:"looked"`
	Next    time.Time    `json:"next"` // when it is looked at again
	Leads   []netip.Addr `json:"leads,omitempty"`
	Cause   string       `json:"cause"`
	Machine string       `json:"machine"`
}

// letOthersLook is how much later the machine that has looked last looks again, if
// no other one does.
const letOthersLook = 5 * time.Second

// newSharedWaits returns nil if each process looks for itself. Those that share a
// directory have the same resolver.
func (e *engine) newSharedWaits(s *store) *sharedWaits {
	if e.leases == nil || e.leases.local {
		return nil
	}
	return &sharedWaits{env: e.env, store: s}
}

// key returns the key of the entry of a host.
func (s *sharedWaits) key(host string) string { return entryKey(host, "+dns") }

// find returns the record of a host, or nil. One that is damaged counts as missing.
func (s *sharedWaits) find(ctx context.Context, host string) *waitRecord {
	if s == nil {
		return nil
	}
	data, err := s.store.read(ctx, s.store.reads, s.key(host))
	if err != nil {
		return nil
	}
	rec := new(waitRecord)
	if err := decodeRecord(data, maxRecord, rec); err != nil {
		s.reports.badRecord(s.key(host), err)
		return nil
	}
	if rec.Host != host {
		return nil
	}
	return rec
}

// forget deletes the record of a host that has ceased to wait.
func (s *sharedWaits) forget(host string) {
	if s != nil {
		s.tasks.Go(func(ctx context.Context) { s.store.delete(context.WithoutCancel(ctx), s.key(host)) })
	}
}

// delay returns how much later this machine looks again than another one is to.
func (s *sharedWaits) delay() time.Duration {
	if s == nil {
		return 0
	}
	return letOthersLook
}

// share tells the other machines what the last look of this one has found.
func (d *dnsWaits) share(ctx context.Context, host string) {
	if d.shared == nil {
		return
	}
	d.mu.Lock()
	w := d.hosts[host]
	if w == nil || w.by != "" {
		d.mu.Unlock()
		return
	}
	rec := waitRecord{
		Host:    host,
		Since:   w.since.UTC(),
		Looked:  w.probed.UTC(),
		Next:    w.err.RetryAt.Add(-letOthersLook).UTC(),
		Leads:   w.told,
		Cause:   text.Line(text.Of(w.err.Err), text.MaxError),
		Machine: d.settings.machine,
	}
	d.mu.Unlock()
	if data, err := json.Marshal(rec); err == nil {
		d.shared.store.put(context.WithoutCancel(ctx), d.shared.key(host), data)
	}
}

// adopt has a host wait because another machine has found that it does not lead
// here. It returns nil if this machine is to look itself: that look was long ago, or
// the last one that counted here was that machine's, too.
func (d *dnsWaits) adopt(sub subject, rec *waitRecord) *IssuanceError {
	if rec == nil || rec.Machine == d.settings.machine {
		return nil
	}
	now := d.now()
	left := rec.left(now)
	if left <= 0 {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if w := d.hosts[sub.host()]; w != nil && w.by == rec.Machine {
		return nil
	}
	w, began := d.wait(sub, rec.since(now))
	if w == nil {
		return nil
	}
	w.adopt(rec, now, left)
	return d.tell(w, began, rec.Leads, IssuanceError{
		Host:     sub.host(),
		KeyType:  sub.alg.String(),
		Stage:    audit.StagePreflight,
		CA:       d.dir,
		Attempts: 1,
		Time:     w.probed,
		RetryAt:  now.Add(left + rand.N(letOthersLook/2)),
		Err:      rec.cause(),
	})
}

// left returns how long the record counts at now. The clocks of machines differ: by
// the one here, the look may have been in the future.
func (rec *waitRecord) left(now time.Time) time.Duration {
	return min(rec.Next.Sub(now), rec.Next.Sub(rec.Looked), probeRarely)
}

// since returns since when the host waits.
func (rec *waitRecord) since(now time.Time) time.Time {
	if rec.Since.IsZero() {
		return now
	}
	return pace.Earlier(now, rec.Since)
}

func (rec *waitRecord) cause() error {
	bare := text.Line(rec.Cause, text.MaxError)
	return &recordedError{text: bare + seenBy(rec.Machine), bare: bare, cause: ErrUnreachable}
}

// adopt notes a look of another machine, in place of one by this machine.
func (w *dnsWait) adopt(rec *waitRecord, now time.Time, left time.Duration) {
	waited := min(rec.Next.Sub(rec.Looked), probeRarely)
	w.by = rec.Machine
	w.probed = now.Add(left - waited)
	w.wait = min(waited*3/2, mostProbe)
}

// recallWait has an issuance under the fleet's lock go by what another machine has
// found out about the host.
func recallWait(ctx context.Context, is *issuer, i *issuance) {
	dns, sub := is.health.dns, i.req.sub
	if sub.group || i.req.override || i.req.found != nil || !dns.covers(sub.host()) || dns.of(sub.host()) != nil {
		return
	}
	if e := dns.adopt(sub, dns.shared.find(ctx, sub.host())); e != nil {
		is.keeper.scheduleProbe(sub, e.RetryAt)
	}
}
