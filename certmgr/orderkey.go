package certmgr

import (
	"cmp"
	"context"
	"crypto"
	"errors"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/bundle"
	"github.com/nostall/nostall/internal/order"
)

// takeKey asks KeySource, if there is one, before anything is ordered.
func (o *orders) takeKey(ctx context.Context, c *conversation) (err error) {
	if !o.keys.isSet() {
		return nil
	}
	c.enter(audit.StageKey)
	c.key, err = o.keys.forOrder(ctx, c.req.sub)
	return err
}

// key returns the private key for an order: the one that another process has
// taken for it, that of KeySource, the one to keep, or a new one.
func (o *orders) key(ctx context.Context, c *conversation, orderURL string) (crypto.Signer, error) {
	taken := c.kept.key(ctx, orderURL)
	if _, ok := taken.(*bundle.PublicOnly); ok {
		taken = nil // that of KeySource is the same, or the order is the other process's
	}
	if key := cmp.Or(taken, c.key, o.keptKey(c.req.sub)); key != nil {
		return key, nil
	}
	return bundle.GenerateKey(o.keyType(c.req.sub))
}

// resume returns the order to resume, or nil. If its entry has the public key
// alone, the private key is that of KeySource. While that fails, the order is
// kept, and if the key is gone, no certificate can come of it.
func (o *orders) resume(ctx context.Context, c *conversation) (*order.Unfinished, error) {
	u := c.resume(ctx)
	if u == nil {
		return nil, nil
	}
	only, ok := u.Key.(*bundle.PublicOnly)
	if !ok {
		return u, nil
	}
	c.enter(audit.StageKey)
	key, err := o.keys.match(ctx, c.host(), only.Public(), keyTimeout)
	if errors.Is(err, errKeyGone) {
		c.emit(audit.Event{
			Kind:     audit.CacheEntryRejected,
			Stage:    audit.StageKey,
			OrderURL: u.URL,
			Reason:   "the entry under \"" + orderCacheKey(c.req.sub) + "\" is deleted",
			Err:      err,
		})
		c.kept.keep(ctx, nil)
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	resumed := *u
	resumed.Key = key
	return &resumed, nil
}

// keptKey returns the key to reuse for the next certificate of a subject
// (Manager.KeepKey), or nil. One of another type than is preferred now is not
// reused.
func (o *orders) keptKey(sub subject) crypto.Signer {
	if !o.settings.keepKey || o.keys.isSet() {
		return nil
	}
	if cert := o.memory.current(sub); cert != nil && o.keyType(sub).Is(cert.leaf.PublicKey) {
		return cert.key
	}
	return nil
}
