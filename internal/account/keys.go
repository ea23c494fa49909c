package account

import (
	"crypto"
	"slices"
)

// savedState says whether the account's key is saved as the current one in the
// store.
type savedState bool

const (
	saved   savedState = true
	unsaved savedState = false // it is only in the entry of the next key
)

// savedKeys holds the account's keys: those in the store, and those in memory
// that the store should have.
type savedKeys struct {
	current crypto.Signer   // nil if there is none
	lost    bool            // current is only in memory: its entry is gone
	isNew   bool            // current was just generated: no CA knows it
	next    []crypto.Signer // new keys of unfinished changes, without current
	nextErr error           // why the entry of the next key is unusable
	unread  bool            // nextErr says that it cannot be read: there may be none
	surplus bool            // the entry of the next key holds the current one
}

func (k savedKeys) isEmpty() bool {
	return k.current == nil && len(k.next) == 0 && (k.nextErr == nil || k.unread)
}

// isOnly reports whether key is the account's, and no change is in progress.
func (k savedKeys) isOnly(key crypto.Signer) bool {
	return sameKey(k.current, key) && len(k.next) == 0 && k.nextErr == nil
}

func (k savedKeys) equal(other savedKeys) bool {
	return sameKey(k.current, other.current) && slices.EqualFunc(k.next, other.next, sameKey)
}

// add adds a next key, unless it is nil or known.
func (k *savedKeys) add(next crypto.Signer) {
	if next == nil || sameKey(next, k.current) || slices.ContainsFunc(k.next, func(o crypto.Signer) bool { return sameKey(o, next) }) {
		return
	}
	k.next = append(k.next, next)
}

// sameKey reports whether two keys, which may be nil, are the same.
func sameKey(a, b crypto.Signer) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	pub, ok := a.Public().(interface{ Equal(crypto.PublicKey) bool })
	return ok && pub.Equal(b.Public())
}
