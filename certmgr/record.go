package certmgr

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/text"
)

// isRecord reports whether key is the key of a record: an entry that autocert
// does not know, such as that of a failure. Caches written for autocert may
// refuse such keys. Certificates are served and issued without records, so one
// that cannot be read or written is reported and otherwise ignored.
func isRecord(key string) bool {
	base, suffix, _ := strings.Cut(key, "+")
	switch suffix {
	case "":
		return !strings.Contains(base, ".") // not a host, and not the legacy account key
	case "key":
		return base != "acme_account"
	case "rsa", "token":
		return !strings.Contains(base, ".")
	}
	return suffix != "http-01"
}

// recordKind returns what a record's key says about its content: its last
// suffix.
func recordKind(key string) string { return key[strings.LastIndexByte(key, '+')+1:] }

const (
	// maxRecord is the largest record that is parsed, in bytes. That of a
	// failure has a few texts of up to 2 KB, which JSON may write six times as
	// long.
	maxRecord = 64 << 10

	// maxVisitRecord is the same for the record of visits: maxWatched entries of
	// the greatest length, with three dates each.
	maxVisitRecord = 8 << 20
)

// decodeRecord parses a record of at most limit bytes.
func decodeRecord(data []byte, limit int, rec any) error {
	if err := checkRecord(data, limit); err != nil {
		return err
	}
	return json.Unmarshal(data, rec)
}

func checkRecord(data []byte, limit int) error {
	if len(data) > limit {
		return fmt.Errorf("entry of %d bytes is too large: the limit is %d; delete it", len(data), limit)
	}
	return nil
}

// badRecord reports a record that is damaged. It counts as missing.
func (c *coalescer) badRecord(key string, err error) {
	c.report(key, audit.Event{
		Kind:   audit.CacheEntryRejected,
		Host:   hostOfKey(key),
		Reason: "the entry under \"" + key + "\" counts as missing",
		Err:    err,
	})
}

// errEmptyEntry is the error of an entry without content.
var errEmptyEntry = errors.New("the entry is empty; for a key without an entry, Get of the Cache must return certmgr.ErrCacheMiss")

// seemsMissing reports whether an error of Cache.Get may mean that the key has
// no entry, although it is not ErrCacheMiss. This is a guess, for hints and
// clean-ups only: nothing is ordered because of it.
func seemsMissing(err error) bool {
	if errors.Is(err, fs.ErrNotExist) {
		return true
	}
	said := strings.ToLower(text.Of(err))
	for _, words := range []string{
		"redis: nil", "nil returned", "no rows", "no documents", "no such file", "unknown key", "nosuchkey", "no such key", "no such entry", "no such item", "no such object",
		"not found", "notfound", "not exist", "doesn't exist", "doesn’t exist", "cache miss", "cachemiss",
	} {
		if strings.Contains(said, words) {
			return true
		}
	}
	return false
}
