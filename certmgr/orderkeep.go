package certmgr

import (
	"context"
	"crypto"

	"github.com/nostall/nostall/internal/bundle"
	"github.com/nostall/nostall/internal/order"
)

// orderKeep keeps the order of one issuance. Only the goroutine of its attempt
// uses it.
type orderKeep struct {
	*orderStore
	sub   subject
	named bool        // an order without a key is written too
	found *foundOrder // under the fleet's lock, or nil
	lease *heldLease  // likewise

	read  bool              // the entry was read
	apart bool              // the entry is of a later version: it is left alone
	now   *order.Unfinished // what the next conversation is to resume, or nil
	tried *order.Unfinished // what was last tried to write
	saved *order.Unfinished // what the entry holds, as far as is known
	kept  *keptOrder        // now, as it is in memory
	done  bool              // the conversation had a certificate
}

func newOrderKeep(s *orderStore, i *issuance) *orderKeep {
	return &orderKeep{
		orderStore: s,
		sub:        i.req.sub,
		named:      s.settings.isNamed(i.host()),
		found:      i.found,
		lease:      i.lease,
	}
}

// resume returns the order that an earlier attempt, of this process or of
// another one, did not finish, or nil. One whose certificate does not fit does
// not keep an operator from ordering another.
func (k *orderKeep) resume(ctx context.Context, override bool) *order.Unfinished {
	if k.found != nil {
		k.reconcile(k.found)
		k.found = nil
	}
	if kept := k.get(k.sub); kept != nil {
		k.kept, k.now, k.saved, k.apart = kept, kept.order, kept.saved, kept.apart || k.apart
	} else if !k.read {
		k.find(ctx)
	}
	if k.now != nil && !k.now.Unfit.IsZero() && override {
		return nil
	}
	if k.now != nil && k.saved == nil && !k.lease.isLocal() && !k.save(ctx) {
		// The Cache still cannot be written: the CA would be asked again and again
		// for what this machine then gives up.
		k.lease.lose(errNotKept)
	}
	return k.now
}

// reconcile makes what is in memory of an order what the Cache has of it, unless
// memory knows more: the Cache may have lacked a write.
func (k *orderKeep) reconcile(f *foundOrder) {
	k.read = true
	kept := k.get(k.sub)
	switch {
	case f.apart:
		k.apart = true
	case f.order == nil:
		if kept != nil && kept.saved != nil { // another machine has done with it
			k.put(k.sub, nil)
		}
	case f.leftover:
		k.saved = f.order
		if kept != nil && kept.order.URL == f.order.URL {
			k.put(k.sub, nil)
		}
	case kept == nil, kept.order.URL != f.order.URL && (kept.order.Key == nil || f.order.Key != nil), isOfOtherKey(f.order, kept.order):
		k.now, k.saved = f.order, f.order
		k.remember()
	}
}

// isOfOtherKey reports whether the certificate of an order was asked for with a key
// that another process does not know.
func isOfOtherKey(u, known *order.Unfinished) bool {
	return u.URL == known.URL && u.Key != nil && (known.Key == nil || !bundle.EqualKeys(u.Key.Public(), known.Key.Public()))
}

// find reads the entry. If the certificate in service came of its order, a
// process ended before it could delete the entry.
func (k *orderKeep) find(ctx context.Context) {
	k.read = true
	u, rec, err := k.orderStore.read(ctx, k.sub)
	if _, newer := err.(newerOrder); newer {
		k.apart = true
	}
	switch {
	case err != nil || u == nil:
	case isLeftover(rec, u, k.memory.current(k.sub)):
		k.saved = u
	default:
		k.now, k.saved = u, u
		k.remember()
	}
}

// keep remembers an order for the next attempt, or with nil forgets it. It
// writes the order before the conversation goes on if that is a new one, or has
// a key now.
func (k *orderKeep) keep(ctx context.Context, u *order.Unfinished) {
	if takenOffBy(ctx) != nil {
		u = nil
	}
	k.now = u
	k.remember()
	if u != nil && (k.tried == nil || k.tried.URL != u.URL || k.tried.Key != u.Key) && (k.saved == nil || *k.saved != *u) {
		k.save(ctx)
	}
}

// remember keeps the order in memory.
func (k *orderKeep) remember() {
	if k.kept = nil; k.now != nil {
		k.kept = k.newKept()
	}
	k.put(k.sub, k.kept)
}

func (k *orderKeep) newKept() *keptOrder {
	return &keptOrder{
		order: k.now,
		saved: k.saved,
		apart: k.apart,
		named: k.named,
	}
}

// save writes the order to the Cache, and reports whether that did not fail. What
// strangers can have placed without proving control of a name is kept in memory
// alone, which has a cap.
func (k *orderKeep) save(ctx context.Context) bool {
	if k.apart || k.settings.cache == nil || !k.named && k.now.Key == nil {
		return true
	}
	k.tried = k.now
	if !k.write(ctx, k.sub, k.now) {
		if !k.lease.isLocal() && k.now.Key != nil {
			// A machine that takes over could not get this order's certificate,
			// and would order another one.
			k.lease.lose(errNotKept)
		}
		return false
	}
	k.saved = k.now
	now := k.newKept()
	if k.replace(k.sub, k.kept, now) { // not if it was dropped meanwhile
		k.kept = now
	}
	return true
}

// key returns the key that another process has asked for the certificate of the
// order with: it resumed the order meanwhile, and both get the same
// certificate. Otherwise it returns nil.
func (k *orderKeep) key(ctx context.Context, url string) crypto.Signer {
	if k.saved == nil || k.saved.URL != url {
		return nil
	}
	u, _, err := k.orderStore.read(ctx, k.sub)
	if err != nil || u == nil || u.URL != url {
		return nil
	}
	return u.Key
}

// end brings the entry up to date when the conversation is over. If there is a
// certificate, its order is needed until that is in the Cache.
func (k *orderKeep) end(ctx context.Context) {
	if k.done {
		return
	}
	if takenOffBy(ctx) != nil {
		k.keep(ctx, nil)
	}
	if k.now != nil && (k.saved == nil || *k.saved != *k.now) && !k.isDropped() {
		k.save(ctx)
	}
	if k.saved != nil && (k.now == nil || k.isDropped()) {
		k.remove(ctx, k.sub, k.saved.URL)
	}
}

// isDropped reports whether the order is no longer wanted: its host is off the
// list, or its certificates were revoked.
func (k *orderKeep) isDropped() bool { return k.kept != nil && k.kept.dropped.Load() }

// succeed notes that there is a certificate. It reports whether the Cache has an
// entry to delete once it has the certificate.
func (k *orderKeep) succeed() (entry bool) {
	k.done = true
	return k.saved != nil
}
