package account

import (
	"context"
	"crypto"
	"fmt"
	"sync"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/acmeclient"
	"github.com/nostall/nostall/internal/flight"
)

// base is what the parts of a Registrar share.
type base struct {
	ca    *acmeclient.CA
	dir   string
	emit  func(audit.Event)
	tasks *flight.Tasks
	turn  turn // for a registration, a change or an update of the account
	known *known
}

// tell makes an event about the account.
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

// turn is held by one at a time, who may block meanwhile.
type turn chan struct{}

func newTurn() turn { return make(turn, 1) }

// take waits for the turn until ctx ends. release must be called once.
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
		return nil, fmt.Errorf("another call that concerns the account has not returned: %w", context.Cause(ctx))
	}
}

// known is what this process knows of the account, whatever the Store holds.
type known struct {
	mu       sync.Mutex
	account  *Account      // in use; nil: none
	state    savedState    // of its key
	last     crypto.Signer // its key, or that of the account in use before
	changing keyChange     // the last one that may still be made
}

func (k *known) current() *Account {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.account
}

// isSaved reports whether acc is in use and its key in its place.
func (k *known) isSaved(acc *Account) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.account == acc && k.state == saved
}

// publish puts an account in use.
func (k *known) publish(acc *Account, state savedState) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.account, k.state, k.last = acc, state, acc.Key
}

func (k *known) forget(acc *Account) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.account == acc {
		k.account = nil
	}
}

// noteChange notes a change of the key that the CA is about to be asked for, or, if c
// is zero, that it will not be made.
func (k *known) noteChange(c keyChange) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.changing = c
}
