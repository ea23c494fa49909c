package certfiles

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/nostall/nostall/internal/bundle"
)

// content is what one file holds.
type content struct {
	path  string
	keys  []crypto.Signer
	certs [][]byte
	err   error
}

// pairing finds the certificates in the files of a group, each with its key.
// Which key belongs to which certificate is seen from the keys, and not from
// the names of the files.
type pairing struct {
	contents []content
	keys     map[string]crypto.Signer // by bundle.KeyID
	used     map[string]bool          // keys that belong to a certificate
}

// pairs reads the files of a group. unread reports whether there are files that
// could not be read, whatever they hold.
func (g group) pairs(ctx context.Context) (all []Pair, unread bool, err error) {
	p := pairing{keys: make(map[string]crypto.Signer), used: make(map[string]bool)}
	for _, s := range g.files {
		if err := ctx.Err(); err != nil {
			return nil, false, err
		}
		c := content{path: s.path}
		data, err := s.read()
		if err == nil {
			c.keys, c.certs, err = bundle.DecodeFile(data)
		} else {
			unread = true
		}
		if err != nil {
			c.err = fmt.Errorf("%s: %w", s.path, err)
		}
		for _, key := range c.keys {
			p.keys[bundle.KeyID(key.Public())] = key
		}
		p.contents = append(p.contents, c)
	}
	return p.all(), unread, nil
}

// all returns the pairs, and the files that cannot be used.
func (p *pairing) all() []Pair {
	var good, bad []Pair
	longest := make(map[string]int) // by leaf, the index in good
	for _, c := range p.contents {
		pair, ok := p.of(c)
		switch {
		case !ok:
		case pair.Err != nil:
			bad = append(bad, pair)
		default:
			// Another file may hold it with more of its chain, such as
			// certbot's fullchain.pem beside cert.pem.
			leaf := string(pair.Chain[0])
			i, again := longest[leaf]
			switch {
			case !again:
				longest[leaf] = len(good)
				good = append(good, pair)
			case len(pair.Chain) > len(good[i].Chain):
				good[i] = pair
			}
		}
	}
	if len(bad) == 0 { // otherwise the bad file may be what a key belongs to
		bad = p.lonelyKeys()
	}
	return append(good, bad...)
}

// of returns the certificate in a file. ok is false if there is none, as in a
// file that holds only keys, or only certificates of CAs.
func (p *pairing) of(c content) (pair Pair, ok bool) {
	pair.Path = c.path
	if c.err != nil {
		pair.Err = c.err
		return pair, true
	}
	onlyAuthorities := true
	for _, der := range c.certs {
		id, authority, err := bundle.Holder(der)
		if err != nil {
			pair.Err = fmt.Errorf("%s: %w", c.path, err)
			return pair, true
		}
		onlyAuthorities = onlyAuthorities && authority
		key := p.keys[id]
		if key == nil {
			continue
		}
		p.used[id] = true
		pair.Key = key
		if pair.Chain, err = bundle.Arrange(key, c.certs); err != nil {
			pair.Err = fmt.Errorf("%s: %w", c.path, err)
		}
		return pair, true
	}
	if onlyAuthorities {
		return pair, false
	}
	pair.Err = fmt.Errorf("%s: %w", c.path, p.noKey())
	return pair, true
}

// noKey says that none of the keys belongs to a certificate.
func (p *pairing) noKey() error {
	if len(p.keys) == 0 {
		return errors.New("there is no private key for the certificate: put one beside it, or into the same file")
	}
	return fmt.Errorf("%w: no private key beside it, of %d, is that of the certificate; write both files again", bundle.ErrOtherKey, len(p.keys))
}

// lonelyKeys returns an error for each file that holds only keys, of which none
// belongs to a certificate.
func (p *pairing) lonelyKeys() (lonely []Pair) {
	for _, c := range p.contents {
		needed := len(c.certs) > 0
		for _, key := range c.keys {
			needed = needed || p.used[bundle.KeyID(key.Public())]
		}
		if !needed {
			lonely = append(lonely, Pair{
				Path: c.path,
				Err:  fmt.Errorf("%s: no certificate in %s belongs to this private key", c.path, filepath.Dir(c.path)),
			})
		}
	}
	return lonely
}
