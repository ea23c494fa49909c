package certmgr

import (
	"context"
	"slices"

	"github.com/nostall/nostall/internal/flight"
)

// issueLocks are the locks of an issuance: that of the process, and then that of
// the fleet, if there is one.
type issueLocks struct {
	locker
	fleet *fleet
}

// locker is the lock of one process under which an issuance runs.
type locker interface {
	// lock waits until no other issuance for any of the names is in flight.
	lock(ctx context.Context, names []string) (unlock func(), err error)
}

// processLock is the lock of one process. The flight allows one issuance for a
// subject; this lock also separates those of a host's two key types, and that of
// a group from those of its members. A CA's tls-alpn-01 handshake names only the
// host (RFC 8737, section 3), so only one such challenge can be pending.
type processLock struct{ keys flight.KeyLock }

var _ locker = (*processLock)(nil)

// lock locks the names in order, so that two groups do not wait for each other.
func (l *processLock) lock(ctx context.Context, names []string) (func(), error) {
	var held []func()
	unlock := func() {
		for _, f := range slices.Backward(held) {
			f()
		}
	}
	for _, name := range slices.Compact(slices.Sorted(slices.Values(names))) {
		f, err := l.keys.Lock(ctx, name)
		if err != nil {
			unlock()
			return nil, err
		}
		held = append(held, f)
	}
	return unlock, nil
}
