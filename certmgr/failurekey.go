package certmgr

import (
	"slices"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/bundle"
)

// scope says which of a host's certificates a failure affects.
type scope uint8

const (
	scopeHost  scope = iota // both: what failed is the host's validation
	scopeECDSA              // the one of that key type
	scopeRSA

	scopes scope = 3
)

// ownScope returns the scope of a failure that affects only one subject.
func ownScope(sub subject) scope {
	if sub.keyType == bundle.RSA {
		return scopeRSA
	}
	return scopeECDSA
}

// failureKey is the key of a failure in memory.
type failureKey struct {
	host  string
	scope scope
}

// failureKeyOf returns the key of sub's failure at a stage.
func failureKeyOf(sub subject, stage audit.Stage) failureKey {
	if isAboutHost(stage) {
		return failureKey{sub.host(), scopeHost}
	}
	return failureKey{sub.host(), ownScope(sub)}
}

// cacheKey returns the record's key in the Cache.
func (k failureKey) cacheKey() string {
	if k.scope == scopeRSA {
		return entryKey(k.host, "+rsa+failure")
	}
	return entryKey(k.host, "+failure")
}

// failureCacheKeys returns the keys under which the Cache may have a failure
// that makes sub back off.
func failureCacheKeys(sub subject) []string {
	return slices.Compact([]string{
		failureKey{sub.host(), ownScope(sub)}.cacheKey(),
		failureKey{sub.host(), scopeHost}.cacheKey(),
	})
}
