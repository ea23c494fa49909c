package certmgr

import (
	"crypto/sha256"
	"encoding/hex"

	"github.com/nostall/nostall/internal/hosts"
)

// maxEntryKey is the longest key, in bytes, of an entry that autocert does not
// have. Not every Cache takes the 253 bytes of a host name and a suffix: some
// keep an entry in a file with a longer name, and names of files end at 255.
const maxEntryKey = 200

// entryKey returns the key in the Cache of an entry that autocert does not
// have, for a host and a suffix that begins with a plus sign. If that were
// longer than maxEntryKey, it is the SHA-256 of it in hexadecimal in place of
// the host: "<64 digits>+failure".
func entryKey(host, suffix string) string {
	key := hosts.Key(host) + suffix
	if len(key) <= maxEntryKey {
		return key
	}
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:]) + suffix
}
