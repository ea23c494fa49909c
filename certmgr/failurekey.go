package certmgr

import (
	"slices"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/bundle"
)

// scope is which of a host's certificates a failure holds back.
type scope uint8

const (
	scopeHost  scope = iota // both: what failed is the host's validation
	scopeECDSA              // the one of that key type
	scopeRSA

	scopes scope = 3
)

// ownScope is the scope of a failure that concerns one subject alone.
func ownScope(sub subject) scope {
	if sub.keyType == bundle.RSA {
		return scopeRSA
	}
	return scopeECDSA
}

// failureKey is what a failure is kept under in memory.
type failureKey struct {
	host  string
	scope scope
}

// failureKeyOf returns the key of a failure of sub's at a stage.
func failureKeyOf(sub subject, stage audit.Stage) failureKey {
	if isAboutHost(stage) {
		return failureKey{sub.host(), scopeHost}
	}
	return failureKey{sub.host(), ownScope(sub)}
}

// cacheKey returns where the failure is kept in the Cache. One entry is for what the
// host has failed with, and for its ECDSA certificate.
func (k failureKey) cacheKey() string {
	if k.scope == scopeRSA {
		return k.host + "+rsa+failure"
	}
	return k.host + "+failure"
}

// failureCacheKeys returns where the Cache may have a failure that holds sub back.
func failureCacheKeys(sub subject) []string {
	return slices.Compact([]string{
		failureKey{sub.host(), ownScope(sub)}.cacheKey(),
		failureKey{sub.host(), scopeHost}.cacheKey(),
	})
}
