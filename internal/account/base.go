package account

import (
	"context"
	"crypto"
	"fmt"
	"sync"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/acmeclient"
	"github.com/nostall/nostall/internal/flight"
)

// base is shared by the parts of a Registrar.
type base struct {
	ca    *acmeclient.CA
	dir   string
	emit  func(audit.Event)
	tasks *flight.Tasks
	turn  turn // for a registration, a change or an update of the account
	lock  Lock // for the same on all machines, taken after turn; or nil
	known *known
}

// tell emits an event about the account.
func (b *base) tell(e audit.Event) {
	e.CA, e.Stage = b.dir, audit.StageAccount
	b.emit(e)
}

// client returns a client that signs as acc.
func (b *base) client(acc *Account) *acme.Client { return b.ca.Client(acc.Key, acc.URL) }

// discover returns the CA's directory.
func (b *base) discover(ctx context.Context, client *acme.Client) (acme.Directory, error) {
	dir, err := client.Discover(ctx)
	if err != nil {
		return dir, fmt.Errorf("directory %s: %w", b.dir, acmeclient.Cause(err))
	}
	return dir, nil
}

// turn is a mutex that may be held across blocking calls.
type turn chan struct{}

func newTurn() turn { return make(turn, 1) }

// take waits for the turn until ctx ends. If err is nil, release must be called
// once.
func (t turn) take(ctx context.Context) (release func(), err error) {
	release = func() { <-t }
	select {
	case t <- struct{}{}:
		return release, nil
	default:
	}
	select {
	case t <- struct{}{}:
		return release, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("another call about the account has not returned: %w", context.Cause(ctx))
	}
}

// known is what this process knows about the account, independent of the Store.
type known struct {
	mu       sync.Mutex
	account  *Account      // in use, or nil
	state    savedState    // whether its key is saved
	last     crypto.Signer // its key, or that of the previous account
	refused  crypto.Signer // the key of an account that the CA refuses, or nil
	changing keyChange     // the last change that the CA may still make
	unused   crypto.Signer // generated here, and of no account yet; or nil
	confirm  time.Time     // when to look whether the saved key is still in the store; zero means never
}

func (k *known) current() *Account {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.account
}

// inUse returns the account in use, or nil, and whether the time has come to
// look whether its key is still in the store.
func (k *known) inUse(now time.Time) (acc *Account, unconfirmed bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.account, k.account != nil && k.state == saved && !k.confirm.IsZero() && !now.Before(k.confirm)
}

// confirmAt sets when to look whether the key is in the store.
func (k *known) confirmAt(at time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.confirm = at
}

// noteConfirmed notes that the entry was read, unless the key was written since at
// was set.
func (k *known) noteConfirmed(at time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.confirm.Equal(at) {
		k.confirm = time.Time{}
	}
}

// isSaved reports whether acc is in use and its key is saved as the current
// one.
func (k *known) isSaved(acc *Account) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.account == acc && k.state == saved
}

// publish puts an account in use.
func (k *known) publish(acc *Account, state savedState) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.account, k.state, k.last, k.refused = acc, state, acc.Key, nil
	k.unused = nil
}

// giveUp is forget for an account that the CA refuses. If an operator deletes
// its key from the store, that is to have another account.
func (k *known) giveUp(acc *Account) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.account == acc {
		k.account, k.refused = nil, acc.Key
	}
}

// wasInUse reports whether this process has had an account.
func (k *known) wasInUse() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.last != nil
}

// generated notes that a key was generated.
func (k *known) generated(key crypto.Signer) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.unused = key
}

// isUnused reports whether a key was generated here, and no account has had it.
func (k *known) isUnused(key crypto.Signer) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.unused != nil && sameKey(k.unused, key)
}

func (k *known) forget(acc *Account) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.account == acc {
		k.account = nil
	}
}

// isBefore reports whether the last change of the key was from a key to another.
func (k *known) isBefore(from, to crypto.Signer) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return sameKey(k.changing.from, from) && sameKey(k.changing.to, to)
}

// noteChange records a change of the key before the CA is asked for it. The
// zero c records that it will not be made.
func (k *known) noteChange(c keyChange) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.changing = c
}
