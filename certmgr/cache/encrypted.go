package cache

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
)

// ErrKey is wrapped by the errors of a cache of [Encrypted] about an entry that
// none of its keys decrypts.
var ErrKey = errors.New("none of the keys decrypts the entry")

// KeySize is the length of a key of [Encrypted], in bytes: AES-256.
const KeySize = 32

// EncryptedCache is a [Cache] that encrypts what it stores in another one; see
// [Encrypted]. It is safe for concurrent use.
type EncryptedCache struct {
	// RefusePlain makes entries that are not encrypted an error. Set it before
	// the cache is used, when all entries are encrypted: until then, whoever can
	// write to the store can put a certificate and a key of their own in it.
	RefusePlain bool

	cache Cache
	keys  []entryKey // the first one encrypts
}

var (
	_ Cache       = (*EncryptedCache)(nil)
	_ Wrapper     = (*EncryptedCache)(nil)
	_ BatchGetter = (*EncryptedCache)(nil)
)

// entryKey is a key with the name that entries have for it.
type entryKey struct {
	id   string
	aead cipher.AEAD
}

// Encrypted returns a [Cache] that stores encrypted values in c: who can read
// the store, or a copy of it, learns the names of entries and no private key.
// Values are encrypted by AES-256-GCM with a random nonce, and the entry's name
// is authenticated with them, so no entry can take another one's place. An
// older value of the same entry can: encryption does not prevent that.
//
// A key has [KeySize] random bytes, as from "openssl rand 32"; a password is
// none. The first key encrypts, and all of them decrypt. To replace a key, put
// the new one first on all machines that share the store, call
// [EncryptedCache.Rewrite], and then remove the old one. (With several machines,
// add the new key as the last one everywhere before it becomes the first.) One
// key is good for four billion entries.
//
// Values that are not encrypted can be read too, so that an existing store can be
// taken over: set [EncryptedCache.RefusePlain] once Rewrite has encrypted them.
// An encrypted entry is a PEM block of the type "NOSTALL ENCRYPTED ENTRY", a
// third longer than the value. autocert cannot read it. An entry that cannot be
// decrypted is an error and not a miss, so nothing is ordered for a lost key: if
// it is lost for good, delete the store's entries.
//
// If c is a [Locker], [LockerOf] finds it, and Put and Delete under [Guard] are
// fenced by c. The names and owners of locks are not encrypted.
func Encrypted(c Cache, keys ...[]byte) (*EncryptedCache, error) {
	if len(keys) == 0 {
		return nil, errors.New("cache: Encrypted needs at least one key")
	}
	e := &EncryptedCache{cache: c}
	for i, key := range keys {
		if len(key) != KeySize {
			return nil, fmt.Errorf("cache: key %d of Encrypted has %d bytes and not %d: use random bytes, as from \"openssl rand %[3]d\"", i+1, len(key), KeySize)
		}
		block, err := aes.NewCipher(key)
		if err != nil {
			return nil, fmt.Errorf("cache: key %d of Encrypted: %w", i+1, err)
		}
		aead, err := cipher.NewGCMWithRandomNonce(block)
		if err != nil {
			return nil, fmt.Errorf("cache: key %d of Encrypted: %w", i+1, err)
		}
		e.keys = append(e.keys, entryKey{idOf(key), aead})
	}
	return e, nil
}

// idOf returns the name that entries have for a key. It does not help to guess a
// random key.
func idOf(key []byte) string {
	sum := sha256.Sum256(append([]byte("nostall cache key\x00"), key...))
	return hex.EncodeToString(sum[:8])
}

// The PEM block of an encrypted entry.
const (
	encryptedType = "NOSTALL ENCRYPTED ENTRY"
	keyIDHeader   = "Key-Id"
)

// additionalData binds a value to its entry. The version is that of the format.
func additionalData(name string) []byte { return []byte("nostall entry 1\x00" + name) }

// Unwrap returns the cache in which the encrypted values are stored.
func (e *EncryptedCache) Unwrap() Cache { return e.cache }

// Get returns the decrypted value of key, or [ErrMiss]. If none of the keys
// decrypts it, the error wraps [ErrKey].
func (e *EncryptedCache) Get(ctx context.Context, key string) ([]byte, error) {
	data, err := e.cache.Get(ctx, key)
	if err != nil {
		return nil, err
	}
	return e.decrypt(key, data)
}

// GetMany implements [BatchGetter]. The error is that of the store, or of the
// entries that cannot be decrypted.
func (e *EncryptedCache) GetMany(ctx context.Context, keys []string) (map[string][]byte, error) {
	entries, err := GetMany(ctx, e.cache, keys)
	values := make(map[string][]byte, len(entries))
	errs := []error{err}
	for key, data := range entries {
		value, err := e.decrypt(key, data)
		if err == nil {
			values[key] = value
		} else if len(errs) < maxErrors {
			errs = append(errs, err)
		}
	}
	return values, errors.Join(errs...)
}

// decrypt returns the value of an entry that was read.
func (e *EncryptedCache) decrypt(key string, data []byte) ([]byte, error) {
	if e.RefusePlain && !isEncrypted(data) {
		return nil, failed("get", key, errors.New("the entry is not encrypted, and RefusePlain is set; "+
			"if it is yours, clear RefusePlain and call Rewrite, else delete it"))
	}
	value, _, err := e.open(key, data)
	if err != nil {
		return nil, failed("get", key, err)
	}
	return value, nil
}

// Put encrypts data and stores it under key.
func (e *EncryptedCache) Put(ctx context.Context, key string, data []byte) error {
	return e.cache.Put(ctx, key, e.seal(key, data))
}

// Delete removes the entry of key.
func (e *EncryptedCache) Delete(ctx context.Context, key string) error {
	return e.cache.Delete(ctx, key)
}

// seal returns the encrypted entry of a value.
func (e *EncryptedCache) seal(name string, value []byte) []byte {
	k := e.keys[0]
	return pem.EncodeToMemory(&pem.Block{
		Type:    encryptedType,
		Headers: map[string]string{keyIDHeader: k.id},
		Bytes:   k.aead.Seal(nil, nil, value, additionalData(name)),
	})
}

// isEncrypted reports whether an entry is an encrypted one, sound or damaged.
func isEncrypted(data []byte) bool {
	return bytes.HasPrefix(data, []byte("-----BEGIN "+encryptedType+"-----"))
}

// open returns the value of an entry, and whether it is encrypted with the first
// key.
func (e *EncryptedCache) open(name string, data []byte) (value []byte, current bool, err error) {
	if !isEncrypted(data) {
		return data, false, nil
	}
	block, rest := pem.Decode(data)
	if block == nil || len(bytes.TrimSpace(rest)) > 0 {
		return nil, false, errors.New("the encrypted entry is damaged: it is no PEM block; restore or delete it")
	}
	id := block.Headers[keyIDHeader]
	for i, k := range e.keys {
		if k.id != id {
			continue
		}
		// An entry of no bytes is not nil.
		if value, err = k.aead.Open([]byte{}, nil, block.Bytes, additionalData(name)); err != nil {
			return nil, false, fmt.Errorf("%w: it was changed, or is another entry's copy; restore or delete it", ErrKey)
		}
		return value, i == 0, nil
	}
	return nil, false, fmt.Errorf("%w: it needs the key with the ID %.64q", ErrKey, id)
}

// Rewrite encrypts the entries that are not encrypted with the first key, and
// returns how many it has rewritten. It needs a store that is a [Lister]. It may
// run while the store is in use, but a value that is put in the same moment by
// another machine may be overwritten by the one before: run it when nothing is
// being renewed, or again. It goes on after entries that fail, up to 100, and
// returns their errors.
func (e *EncryptedCache) Rewrite(ctx context.Context) (rewritten int, err error) {
	store, ok := As[Lister](e.cache)
	if !ok {
		return 0, errors.New("cache: Rewrite needs a store that can list its keys: cache.Lister")
	}
	var errs []error
	for key, err := range store.Keys(ctx) {
		if err == nil {
			var done bool
			if done, err = e.rewrite(ctx, key); done {
				rewritten++
			}
		}
		if err != nil {
			errs = append(errs, err)
		}
		if len(errs) == maxErrors || ctx.Err() != nil {
			break
		}
	}
	return rewritten, errors.Join(errs...)
}

// maxErrors is the largest number of errors of entries that Rewrite collects.
const maxErrors = 100

// rewrite encrypts one entry with the first key, unless it is.
func (e *EncryptedCache) rewrite(ctx context.Context, key string) (done bool, err error) {
	data, err := e.cache.Get(ctx, key)
	if errors.Is(err, ErrMiss) {
		return false, nil // deleted meanwhile
	}
	if err != nil {
		return false, err
	}
	value, current, err := e.open(key, data)
	if err != nil {
		return false, failed("rewrite", key, err)
	}
	if current {
		return false, nil
	}
	if err := e.Put(ctx, key, value); err != nil {
		return false, err
	}
	return true, nil
}
