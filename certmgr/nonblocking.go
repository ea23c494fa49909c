package certmgr

import (
	"context"
	"reflect"
)

// NonBlocking returns a policy that decides as p does, and declares that p does
// not block: it looks in a map, say, and makes no request. Such a policy is
// called in the goroutine of the handshake and not in one of the Manager's own,
// so that the refusal of a scanner takes half the time. HostWhitelist needs no
// declaration. NonBlocking(nil) is nil.
//
// The policy's context is that of the handshake, without a time-out, and calls
// for the same host may be concurrent. If the declaration is wrong, nothing
// bounds the wait: while a call hangs, so does its handshake. A panic counts as
// that of any policy does; runtime.Goexit ends the goroutine of the handshake.
//
//go:noinline
func NonBlocking(p HostPolicy) HostPolicy {
	if p == nil || isWhitelist(p) {
		return p
	}
	return func(ctx context.Context, host string) error { return p(ctx, host) }
}

// nonBlockingCode is the code pointer of the policies that NonBlocking returns;
// it is unique because NonBlocking is not inlined.
var nonBlockingCode = reflect.ValueOf(NonBlocking(AllowAnyHost)).Pointer()

// isNonBlocking reports whether p is from NonBlocking. A func type can be
// recognised in no other way.
func isNonBlocking(p HostPolicy) bool { return reflect.ValueOf(p).Pointer() == nonBlockingCode }
