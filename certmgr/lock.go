package certmgr

import (
	"context"

	"github.com/nostall/nostall/internal/flight"
)

// locker is the lock under which an issuance takes place. A fleet needs one
// that its machines share.
type locker interface {
	// lock waits until no other issuance for sub's identifiers is under way.
	lock(ctx context.Context, sub subject) (unlock func(), err error)
}

// processLock is the lock of one process. The flight sees to one issuance for
// a subject; here those of a host's two key types are kept apart, because a CA
// that asks for a tls-alpn-01 answer names the host alone (RFC 8737, section 3),
// so that there can be one at a time.
type processLock struct{ keys flight.KeyLock }

var _ locker = (*processLock)(nil)

func (l *processLock) lock(ctx context.Context, sub subject) (func(), error) {
	return l.keys.Lock(ctx, sub.identifiers)
}
