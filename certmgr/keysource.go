package certmgr

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nostall/nostall/internal/bundle"
	"github.com/nostall/nostall/internal/capped"
	"github.com/nostall/nostall/internal/flight"
	"github.com/nostall/nostall/internal/text"
)

// keySource asks Manager.KeySource for private keys: for new certificates, and for
// those in the Cache whose entry has the public key alone.
type keySource struct {
	*env
	memory *memory
	calls  *flight.Callouts

	mu     sync.Mutex
	failed capped.Map[string, failedRead] // by host, recent failures for entries
}

const (
	// keyTimeout is the time-out of KeySource for a new certificate. Hardware may
	// take long to generate a key.
	keyTimeout = 30 * time.Second

	// keyLoadTimeout is the same for a certificate in the Cache: handshakes wait
	// for it.
	keyLoadTimeout = 5 * time.Second

	// keyFailedFor is how long KeySource is not asked again for a certificate in
	// the Cache after it failed. Handshakes fail at once meanwhile.
	keyFailedFor = 10 * time.Second

	// maxKeySources is the largest number of concurrent calls of KeySource.
	maxKeySources = 256
)

// errKeyGone: KeySource does not have the private key that an entry is for.
var errKeyGone = errors.New("the entry has the public key alone, and its private key is gone")

// sourcedKey is a key that cannot be exported. Its other methods are the user's
// code and are called to sign, and for nothing else.
type sourcedKey struct {
	crypto.Signer
	public crypto.PublicKey
}

func (k *sourcedKey) Public() crypto.PublicKey { return k.public }

// usersKey returns a key as KeySource has returned it.
func usersKey(key crypto.Signer) crypto.Signer {
	if k, ok := key.(*sourcedKey); ok {
		return k.Signer
	}
	return key
}

// isSet reports whether keys are not generated here.
func (s *keySource) isSet() bool { return s.settings.keySource != nil }

// get calls KeySource. The error wraps ErrKeySource.
func (s *keySource) get(ctx context.Context, host string, timeout time.Duration) (crypto.Signer, error) {
	in, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	key, err := flight.CallOut(in, s.calls, host, func(ctx context.Context) (crypto.Signer, error) {
		key, err := s.settings.keySource(ctx, host)
		if err != nil {
			return nil, err
		}
		return accepted(key)
	})
	if err == nil {
		return key, nil
	}
	if errors.Is(err, ErrCacheMiss) {
		err = errors.New(text.Cause(err)) // of another store: here it would mean that there is no entry
	}
	return nil, &refusal{kind: ErrKeySource, cause: err}
}

// accepted returns the form of a key that is used in here.
func accepted(key crypto.Signer) (crypto.Signer, error) {
	if key == nil {
		return nil, errors.New("it returned neither a key nor an error")
	}
	public := key.Public()
	if err := bundle.CheckPublicKey(public); err != nil {
		return nil, err
	}
	if bundle.IsExportable(key) {
		return key, nil
	}
	return &sourcedKey{Signer: key, public: public}, nil
}

// forOrder returns the key for a new certificate. The error wraps ErrKeySource.
func (s *keySource) forOrder(ctx context.Context, sub subject) (crypto.Signer, error) {
	key, err := s.get(ctx, sub.host(), keyTimeout)
	if err != nil {
		return nil, err
	}
	refuse := func(text string) (crypto.Signer, error) {
		return nil, &refusal{kind: ErrKeySource, text: text}
	}
	if alg := bundle.AlgorithmOfKey(key.Public()); alg != sub.alg {
		return refuse(fmt.Sprintf("it returned an %v key, and the certificate is to have an %v key: set KeyType to the type of its keys", alg, sub.alg))
	}
	if s.isBarred(key.Public()) {
		return refuse("it returned a key that was revoked as compromised: it has to return another one")
	}
	return key, nil
}

// match returns the private key for a public key of the host. The error wraps
// ErrKeySource if KeySource failed, and errKeyGone if there is no such key.
func (s *keySource) match(ctx context.Context, host string, public crypto.PublicKey, timeout time.Duration) (crypto.Signer, error) {
	if !s.isSet() {
		return nil, fmt.Errorf("%w: Manager.KeySource is nil", errKeyGone)
	}
	key, err := s.get(ctx, host, timeout)
	if err != nil {
		return nil, err
	}
	if !bundle.EqualKeys(public, key.Public()) {
		return nil, fmt.Errorf("%w: KeySource returned another key", errKeyGone)
	}
	return key, nil
}

// attach sets the private key of a certificate from the Cache, if its entry has
// none. The errors are those of match. Call it in tasks only.
func (s *keySource) attach(ctx context.Context, cert *certificate) error {
	if _, ok := cert.key.(*bundle.PublicOnly); !ok {
		return nil
	}
	host := cert.subject.host()
	if have := s.memory.current(cert.subject); have != nil && bundle.EqualKeys(have.leaf.PublicKey, cert.leaf.PublicKey) {
		cert.key = have.key
		return nil
	}
	if err := s.failedLately(host); err != nil {
		return err
	}
	key, err := s.match(ctx, host, cert.leaf.PublicKey, keyLoadTimeout)
	if err == nil {
		cert.key = usersKey(key)
	} else if errors.Is(err, ErrKeySource) && ctx.Err() == nil {
		s.noteFailure(host, err)
	}
	return err
}

func (s *keySource) failedLately(host string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, ok := s.failed.Get(host)
	if since := time.Since(f.at); !ok || since < 0 || since >= keyFailedFor {
		return nil
	}
	return f.err
}

func (s *keySource) noteFailure(host string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failed.Max = maxFailedReads
	s.failed.Put(host, failedRead{err, time.Now()}, func(a, b failedRead) bool { return a.at.Before(b.at) })
}

// isBarred reports whether a key was revoked as compromised.
func (s *keySource) isBarred(public crypto.PublicKey) bool {
	der, err := x509.MarshalPKIXPublicKey(public)
	return err == nil && s.memory.isBarred(&x509.Certificate{RawSubjectPublicKeyInfo: der})
}
