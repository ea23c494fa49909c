package certmgr

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"

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
	if sub.alg == bundle.RSA {
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
		return failureKey{sub.id(), scopeHost}
	}
	return failureKey{sub.id(), ownScope(sub)}
}

// key returns the key of the failure of sub.
func (rec *failure) key(sub subject) failureKey {
	if rec.second {
		return failureKey{sub.id(), ownScope(sub)}
	}
	return failureKeyOf(sub, rec.err.Stage)
}

// cacheKey returns the record's key in the Cache, if the list has the host by
// its exact name. See health.recordKey for others.
func (k failureKey) cacheKey() string {
	if k.scope == scopeRSA {
		return entryKey(k.host, "+rsa+failure")
	}
	return entryKey(k.host, "+failure")
}

// strangersCacheKey returns the key of the record if a stranger may have made
// the host's name up: one of maxStrangersRecords, by the hash of the record's
// own key. However many names fail, in however many processes, the Cache has no
// more such records. Two hosts may share a key. The later record then overwrites
// the other, which costs its host one more attempt after a restart.
func (k failureKey) strangersCacheKey() string {
	sum := sha256.Sum256([]byte(k.cacheKey()))
	return fmt.Sprintf("unlisted-%03d+failure", binary.BigEndian.Uint64(sum[:])%maxStrangersRecords)
}

// maxStrangersRecords is how many records of failures the Cache may have for
// hosts that the list does not have by their exact names.
const maxStrangersRecords = 1_000

// recordKeysOf returns a key for each entry in which the Cache may have a
// failure that makes sub back off. A failure of the ECDSA certificate alone has
// the entry of the host's.
func recordKeysOf(sub subject) []failureKey {
	keys := []failureKey{{sub.id(), scopeHost}}
	if sub.alg == bundle.RSA {
		keys = append(keys, failureKey{sub.id(), scopeRSA})
	}
	return keys
}
