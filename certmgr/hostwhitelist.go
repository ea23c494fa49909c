package certmgr

import (
	"context"
	"reflect"
	"strings"

	"golang.org/x/net/idna"

	"github.com/nostall/nostall/internal/hosts"
)

// HostWhitelist returns a policy that allows exactly the given hosts, compared
// without regard to case and in A-label form, or as IP addresses; wildcards and
// subdomains do not match. Like autocert, it ignores invalid hosts. An Allowlist reports them,
// and can be changed.
//
//go:noinline
func HostWhitelist(names ...string) HostPolicy {
	allowed := make(map[string]struct{}, len(names))
	for _, h := range names {
		if addr, ok := hosts.ParseAddress(h); ok {
			h = addr.String()
			allowed[h] = struct{}{}
		}
		// Like autocert, allow what IDNA accepts, so that callers may use the
		// policy on names that a Manager would refuse.
		if h, err := idna.Lookup.ToASCII(h); err == nil {
			allowed[h] = struct{}{}
			allowed[strings.TrimSuffix(h, ".")] = struct{}{} // the form that a Manager uses
		}
	}
	return func(_ context.Context, host string) error {
		if _, ok := allowed[host]; ok {
			return nil
		}
		return &refusal{kind: ErrHostNotAllowed, host: host, text: "not in HostWhitelist"}
	}
}

// whitelistCode is the code pointer of the policies that HostWhitelist returns;
// it is unique because HostWhitelist is not inlined.
var whitelistCode = reflect.ValueOf(HostWhitelist()).Pointer()

// isWhitelist reports whether p is from HostWhitelist. Such a policy cannot
// block, so it is called without a goroutine and a time-out. A func type can be
// recognised in no other way.
func isWhitelist(p HostPolicy) bool { return reflect.ValueOf(p).Pointer() == whitelistCode }
