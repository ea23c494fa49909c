package certmgr

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/nostall/nostall/certmgr/cache"
	"github.com/nostall/nostall/internal/acmeclient"
	"github.com/nostall/nostall/internal/bundle"
	"github.com/nostall/nostall/internal/renewal"
	"github.com/nostall/nostall/internal/text"
)

// windowStore keeps what the CA suggests about certificates in the Cache, so that
// one machine of a fleet asks about a certificate and the others read the answer.
// Each picks its own moment in the window, so the renewals are spread over the
// machines.
type windowStore struct {
	*env
	store  *store
	leases *leases
}

// windowRecord is the JSON form of the CA's suggestion for a certificate, in the
// Cache under its key and "+ari".
type windowRecord struct {
	CA          string    `json:"ca"`
	CertID      string    `json:"certID"`
	NotBefore   time.Time `json:"notBefore"`      // of the certificate
	Start       time.Time `json:"start,omitzero"` // of the window; zero if the CA has not told any yet
	End         time.Time `json:"end,omitzero"`   //
	Explanation string    `json:"explanationURL,omitempty"`
	Asked       time.Time `json:"asked"`
	Next        time.Time `json:"next"` // when the CA is to be asked again
	Machine     string    `json:"machine"`
}

// askHeldAgain is how long a machine waits at least while another one asks about the
// same certificate.
const askHeldAgain = time.Minute

// key returns the key of the entry for a certificate. It is also the name of the
// lock for whoever asks about it.
func (w *windowStore) key(sub subject) string {
	if sub.alg == bundle.RSA {
		return entryKey(sub.id(), "+rsa+ari")
	}
	return entryKey(sub.id(), "+ari")
}

// decode returns the record in an entry. One that is damaged or another CA's counts
// as missing.
func (w *windowStore) decode(sub subject, data []byte, err error) *windowRecord {
	if err != nil {
		return nil
	}
	rec := new(windowRecord)
	if err := decodeRecord(data, maxRecord, rec); err != nil {
		w.reports.badRecord(w.key(sub), err)
		return nil
	}
	if rec.CA != w.dir {
		return nil
	}
	return rec
}

// find returns the record for a certificate, or nil.
func (w *windowStore) find(ctx context.Context, sub subject) *windowRecord {
	data, err := w.store.getInTask(ctx, w.store.reads, w.key(sub))
	return w.decode(sub, data, err)
}

// findNow is find by a read that begins now.
func (w *windowStore) findNow(ctx context.Context, sub subject) *windowRecord {
	data, err := w.store.read(ctx, w.store.reads, w.key(sub))
	return w.decode(sub, data, err)
}

// wait returns how long the answer holds at now. The clocks of machines differ: by
// the one here, it may have been given in the future.
func (rec *windowRecord) wait(now time.Time) time.Duration {
	return min(rec.Next.Sub(now), rec.Next.Sub(rec.Asked), renewal.AskLatest)
}

// info returns the answer as one that the CA gives now.
func (rec *windowRecord) info(wait time.Duration) acmeclient.RenewalInfo {
	return acmeclient.RenewalInfo{
		Start:          rec.Start,
		End:            rec.End,
		ExplanationURL: acmeclient.ExplanationURL(rec.Explanation),
		RetryAfter:     wait,
	}
}

// hasWindow reports whether the CA has told a window.
func (rec *windowRecord) hasWindow() bool { return !rec.Start.IsZero() && rec.Start.Before(rec.End) }

// put writes what the CA has answered about a certificate. If it has refused to
// answer, it is asked later, and before is what it told the last time, or nil.
func (w *windowStore) put(ctx context.Context, cert *certificate, a answeredWindow, before *windowRecord) {
	now := w.now()
	rec := windowRecord{
		CA:        w.dir,
		CertID:    acmeclient.CertID(cert.leaf),
		NotBefore: cert.notBefore.UTC(),
		Asked:     now.UTC(),
		Next:      a.next.UTC(),
		Machine:   w.settings.machine,
	}
	switch {
	case a.err == nil:
		rec.Start, rec.End, rec.Explanation = a.info.Start.UTC(), a.info.End.UTC(), a.info.ExplanationURL
	case len(text.Problems(a.err)) == 0:
		return // this machine may be cut off from the CA
	case before != nil && before.CertID == rec.CertID:
		rec.Start, rec.End, rec.Explanation = before.Start, before.End, before.Explanation
	}
	if data, err := json.Marshal(rec); err == nil {
		w.store.put(ctx, w.key(cert.subject), data)
	}
}

// answeredWindow is an answer of the CA, and when it is asked again.
type answeredWindow struct {
	info acmeclient.RenewalInfo
	err  error
	next time.Time
}

// askOnce asks the CA about a certificate unless another machine has asked lately or
// is asking. Without the store, each machine asks for itself.
func (r *renewals) askOnce(ctx context.Context, cert *certificate) {
	w, sub := r.windows, cert.subject
	if r.adoptWindow(ctx, cert, w.find(ctx, sub)) {
		return
	}
	lease, _, err := w.leases.lock(ctx, w.key(sub))
	if _, held := errors.AsType[*cache.HeldError](err); held {
		r.schedule.askAt(cert, r.now().Add(askHeldAgain+rand.N(askHeldAgain)))
		return
	}
	if err != nil {
		r.askCA(ctx, cert)
		return
	}
	defer w.leases.unlock(context.WithoutCancel(ctx), w.key(sub), lease)
	before := w.findNow(ctx, sub)
	if r.adoptWindow(ctx, cert, before) {
		return
	}
	if a, ok := r.askCA(ctx, cert); ok {
		w.put(cache.Guard(context.WithoutCancel(ctx), lease), cert, a, before)
	}
}

// adoptWindow applies what the CA told another machine about a certificate, and
// reports whether the CA need not be asked now. It need not either if another
// machine has renewed the certificate.
func (r *renewals) adoptWindow(ctx context.Context, cert *certificate, rec *windowRecord) bool {
	if rec == nil {
		return false
	}
	if rec.CertID != acmeclient.CertID(cert.leaf) {
		return rec.NotBefore.After(cert.notBefore) && r.loadNewer(ctx, cert)
	}
	now := r.now()
	wait := rec.wait(now)
	switch {
	case wait <= 0:
		return false
	case rec.hasWindow():
		r.schedule.answered(cert, rec.info(wait), nil)
	default:
		r.schedule.askAt(cert, now.Add(wait+rand.N(askHeldAgain)))
	}
	return true
}

// loadNewer loads a certificate with which another machine has replaced cert, and
// reports whether there is nothing left to do for cert.
func (r *renewals) loadNewer(ctx context.Context, cert *certificate) bool {
	g, ok := r.permitted(ctx, cert.subject.host())
	if !ok {
		return true
	}
	r.loader.read(ctx, cert.subject, g, quietly)
	return r.memory.current(cert.subject) != cert
}
