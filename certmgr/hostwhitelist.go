package certmgr

import (
	"context"
	"reflect"
	"strings"

	"golang.org/x/net/idna"
)

// HostWhitelist returns a policy that allows exactly the given hosts, matched
// without regard to case and in their A-label form; wildcards and subdomains
// do not match. Invalid hosts are ignored, as autocert does. An Allowlist says
// which they are, and can be changed.
//
//go:noinline
func HostWhitelist(hosts ...string) HostPolicy {
	allowed := make(map[string]struct{}, len(hosts))
	for _, h := range hosts {
		// As autocert: what IDNA maps, so that callers may use the policy
		// on names that a Manager would refuse.
		if h, err := idna.Lookup.ToASCII(h); err == nil {
			allowed[h] = struct{}{}
			allowed[strings.TrimSuffix(h, ".")] = struct{}{} // what a Manager asks for
		}
	}
	return func(_ context.Context, host string) error {
		if _, ok := allowed[host]; ok {
			return nil
		}
		return &refusal{kind: ErrHostNotAllowed, host: host, text: "not in HostWhitelist"}
	}
}

// whitelistCode is the code of the policies that HostWhitelist makes; that it is
// not inlined keeps it one.
var whitelistCode = reflect.ValueOf(HostWhitelist()).Pointer()

// isWhitelist reports whether p is one of HostWhitelist's. Those cannot block, so
// they are asked without the goroutine and the deadline that others need: to turn a
// scanner away takes 0.6 µs and one allocation in place of 10 µs and 31
// (BenchmarkDeny). A func type has nothing else to be recognised by.
func isWhitelist(p HostPolicy) bool { return reflect.ValueOf(p).Pointer() == whitelistCode }
