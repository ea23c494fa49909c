package certmgr

import (
	"context"

	"github.com/nostall/nostall/internal/flight"
)

// locker is the lock under which an issuance runs. A fleet needs one shared by
// its machines.
type locker interface {
	// lock waits until no other issuance for sub's identifiers is in flight.
	lock(ctx context.Context, sub subject) (unlock func(), err error)
}

// processLock is the lock of one process. The flight allows one issuance for a
// subject; this lock also separates those of a host's two key types. A CA's
// tls-alpn-01 handshake names only the host (RFC 8737, section 3), so only one
// such challenge can be pending.
type processLock struct{ keys flight.KeyLock }

var _ locker = (*processLock)(nil)

func (l *processLock) lock(ctx context.Context, sub subject) (func(), error) {
	return l.keys.Lock(ctx, sub.identifiers)
}
