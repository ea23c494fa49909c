package certmgr

import (
	"time"

	"github.com/nostall/nostall/internal/bundle"
	"github.com/nostall/nostall/internal/text"
)

// expiredEntry is the error of a bundle that is valid but expired.
type expiredEntry struct{ notAfter time.Time }

func (e expiredEntry) Error() string { return "certificate expired at " + text.Stamp(e.notAfter) }

// certificateFromBundle returns the certificate of a cache entry if it can be
// served now. On any error the entry counts as missing.
func certificateFromBundle(sub subject, data []byte, now time.Time) (*certificate, error) {
	key, chain, err := bundle.Decode(data)
	if err != nil {
		return nil, err
	}
	leaf, err := bundle.Check(sub.host(), sub.keyType, key, chain)
	if err != nil {
		return nil, err
	}
	if now.After(leaf.NotAfter) {
		return nil, expiredEntry{leaf.NotAfter}
	}
	return newCertificate(sub, key, chain, leaf), nil
}
