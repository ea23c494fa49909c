package account

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nostall/nostall/internal/bundle"
	"github.com/nostall/nostall/internal/flight"
)

// currentEntry and legacyEntry are autocert's names for the entry of the
// account key, the second from its early versions; it is read and never
// written. nextEntry is for the new key of a change.
const (
	currentEntry = "acme_account+key"
	legacyEntry  = "acme_account.key"
	nextEntry    = "acme_account+key+next"

	// absentEntry is never written. A store that cannot read this either fails
	// for every name that it does not know.
	absentEntry = "acme_account+key+absent+next"
)

// Store stores the entries of keys. Its calls have a time-out. It is safe for
// concurrent use.
type Store interface {
	// Get returns an entry, which the caller must not change. The error is
	// ErrNoEntry if there is none.
	Get(ctx context.Context, name string) ([]byte, error)

	Put(ctx context.Context, name string, data []byte) error
	Delete(ctx context.Context, name string) error
}

// ErrNoEntry is the error of Store.Get for an entry that does not exist.
var ErrNoEntry = errors.New("no such entry")

// errUnread is about an entry that could not be read, so that it may not exist.
var errUnread = errors.New("cannot be read")

// keyStore reads and writes the entries of the account's keys.
type keyStore struct {
	entries Store
	shared  bool // with other machines
	locked  bool // one machine at a time writes
	known   *known
}

// newKeyStore returns the keys in entries, or in memory if that is nil.
func newKeyStore(entries Store, known *known) *keyStore {
	if entries == nil {
		return &keyStore{entries: new(memoryStore), known: known}
	}
	return &keyStore{entries: entries, shared: true, known: known}
}

// read returns the account's keys. If the entry of the next key is damaged or
// unreadable, that does no harm while the CA knows the other key.
//
// The next key is read first. A change that ends meanwhile saves it as the current one
// before it deletes it, so in the other order neither read might find it.
func (s *keyStore) read(ctx context.Context) (savedKeys, error) {
	next, nextErr := s.get(ctx, nextEntry)
	keys := savedKeys{nextErr: nextErr, unread: errors.Is(nextErr, errUnread)}
	var err error
	for _, name := range []string{currentEntry, legacyEntry} {
		if keys.current, err = s.get(ctx, name); keys.current != nil || err != nil {
			break
		}
	}
	if err != nil {
		return savedKeys{}, err
	}
	keys.surplus = next != nil && sameKey(next, keys.current)
	s.known.complete(&keys, next)
	return keys, nil
}

// hasNoNext reports whether the entry of the next key is known to be missing.
// If it cannot be read, there are two signs of that. Nobody has changed a key
// that was generated here and never had an account. And some stores know
// autocert's entries only, and fail for others instead of reporting ErrNoEntry:
// they have never held it.
func (s *keyStore) hasNoNext(ctx context.Context, keys savedKeys) bool {
	if keys.nextErr == nil || !keys.unread {
		return keys.nextErr == nil
	}
	if s.known.isUnused(keys.current) {
		return true
	}
	_, err := s.entries.Get(ctx, absentEntry)
	return err != nil && !errors.Is(err, ErrNoEntry) && !flight.IsTimeout(err) && !errors.Is(err, context.Canceled) && ctx.Err() == nil
}

// complete adds next, the content of the entry of the next key or nil, and keys
// that are missing in the store. Caches evict entries and operators clear them:
// keys in memory still count, unless the CA refuses the account.
func (k *known) complete(keys *savedKeys, next crypto.Signer) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if keys.current == nil && k.last != nil && !sameKey(k.last, k.refused) {
		keys.current, keys.lost = k.last, true
	}
	keys.add(next)
	if sameKey(keys.current, k.changing.from) {
		keys.add(k.changing.to)
		if next == nil && k.changing.to != nil {
			keys.nextErr = nil
		}
	}
}

// The pause between writing the first key and taking it as the only one, see
// first.
const (
	minKeyPause = 10 * time.Millisecond
	maxKeyPause = 2 * time.Second
)

const (
	// confirmAfter is how long after a write of the current key its entry is
	// read again: another machine's write, begun before it could see this one,
	// has ended by then.
	confirmAfter = 10 * time.Second

	// confirmAgain is the same after that read has failed.
	confirmAgain = time.Minute
)

// first generates a key. If another machine did so at the same time, it returns
// the keys in the store.
func (s *keyStore) first(ctx context.Context) (savedKeys, error) {
	key, err := bundle.GenerateKey(bundle.P256)
	if err != nil {
		return savedKeys{}, fmt.Errorf("account key: %w", err)
	}
	// An account whose key is lost at the next start counts against the CA's
	// limit of new accounts, so nothing is registered before the key is saved.
	began := time.Now()
	if err := s.put(ctx, currentEntry, key); err != nil {
		return savedKeys{}, err
	}
	s.known.generated(key)
	if !s.shared || s.locked {
		return savedKeys{current: key, isNew: true}, nil
	}
	// Another machine's write, begun before it could see this one, takes about
	// as long; with this much to spare, rarely longer.
	if err := flight.Sleep(ctx, min(minKeyPause+10*time.Since(began), maxKeyPause)); err != nil {
		return savedKeys{}, err
	}
	if now, err := s.get(ctx, currentEntry); err == nil && now != nil && !sameKey(now, key) {
		return s.read(ctx)
	}
	return savedKeys{current: key, isNew: true}, nil
}

// get returns the key of an entry, or nil if there is none.
func (s *keyStore) get(ctx context.Context, name string) (crypto.Signer, error) {
	data, err := s.entries.Get(ctx, name)
	if errors.Is(err, ErrNoEntry) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("account key %w: %w", errUnread, err)
	}
	key, _, err := bundle.DecodeKey(data)
	if err != nil {
		loss := "to register a new account"
		if name == nextEntry {
			loss = fmt.Sprintf("if the CA knows the account by the key under %q", currentEntry)
		}
		if len(data) == 0 {
			return nil, fmt.Errorf("account key in the cache under %q is damaged: it is empty; delete the entry %s; "+
				"for a key without an entry, Get of the Cache must return certmgr.ErrCacheMiss", name, loss)
		}
		return nil, fmt.Errorf("account key in the cache under %q is damaged (%w): restore it from a backup, or delete the entry %s", name, err, loss)
	}
	if err := checkKey(key); err != nil {
		return nil, fmt.Errorf("account key in the cache under %q %w; restore the right one from a backup, or delete the entry", name, err)
	}
	return key, nil
}

func (s *keyStore) put(ctx context.Context, name string, key crypto.Signer) error {
	if name == currentEntry && s.shared {
		defer func() { s.known.confirmAt(time.Now().Add(confirmAfter)) }()
	}
	var buf bytes.Buffer
	err := bundle.EncodeKey(&buf, key)
	if err == nil {
		err = s.entries.Put(ctx, name, buf.Bytes())
	}
	if err != nil {
		return fmt.Errorf("account key: %w", err)
	}
	return nil
}

// deleteNext deletes the entry of the next key if it holds key: another machine
// may have written its own. It may fail, since a leftover is settled with the
// CA.
func (s *keyStore) deleteNext(ctx context.Context, key crypto.Signer) {
	if next, err := s.get(ctx, nextEntry); err == nil && next != nil && sameKey(next, key) {
		s.entries.Delete(ctx, nextEntry)
	}
}

// memoryStore stores entries in memory. The zero value is empty.
type memoryStore struct {
	mu   sync.Mutex
	data map[string][]byte
}

func (m *memoryStore) Get(_ context.Context, name string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if data, ok := m.data[name]; ok {
		return data, nil
	}
	return nil, ErrNoEntry
}

func (m *memoryStore) Put(_ context.Context, name string, data []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.data == nil {
		m.data = make(map[string][]byte)
	}
	m.data[name] = data
	return nil
}

func (m *memoryStore) Delete(_ context.Context, name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.data, name)
	return nil
}
