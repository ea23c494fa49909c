package challenge

import (
	"context"
	"crypto"
	"crypto/tls"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/internal/bundle"
	"github.com/nostall/nostall/internal/text"
)

// Store is the part of the Cache that answers need. It reports its own
// failures.
type Store interface {
	Put(ctx context.Context, key string, data []byte) error
	Delete(ctx context.Context, key string) error

	// DeleteLater deletes the entry in the background, as soon as that can be
	// done, unless it is not data any more.
	DeleteLater(key string, data []byte)
}

// Answers holds the responses to pending challenges in this process. The Cache
// holds them too, since the CA may reach another machine instead. It is safe
// for concurrent use.
type Answers struct {
	Offer  Offer
	Worked Memory // of which type the last validated challenge of a host was

	store Store

	mu   sync.RWMutex
	live map[string]*Answer // by the Cache's key

	// stored has the hosts of the http-01 answers in the Cache that came from
	// here, by the Cache's key, which names no host.
	stored map[string]string
}

// NewAnswers returns an empty Answers.
func NewAnswers(store Store) *Answers {
	return &Answers{store: store, live: make(map[string]*Answer), stored: make(map[string]string)}
}

// Answer is the response to one challenge. The CA can fetch it until it is
// removed from this process and deleted from the Cache.
type Answer struct {
	typ  string
	host string
	cert *tls.Certificate // tls-alpn-01
	body []byte           // http-01
	seen atomic.Int32     // number of requests answered here

	stored bool

	remove func()
	forget func(context.Context) bool
}

// Present makes the response to a challenge available, here at once and then in
// the Cache. A failure to write the Cache is not an error: the CA may well
// reach this machine. The caller must call Remove and then Forget.
func (a *Answers) Present(ctx context.Context, client *acme.Client, chal *acme.Challenge, host string) (*Answer, error) {
	switch chal.Type {
	case TLSALPN01:
		return a.presentTLSALPN01(ctx, client, chal, host)
	case HTTP01:
		return a.presentHTTP01(ctx, client, chal, host)
	}
	return nil, fmt.Errorf("challenges of type %q cannot be answered", text.OneLine(chal.Type, 64))
}

func (a *Answers) presentTLSALPN01(ctx context.Context, client *acme.Client, chal *acme.Challenge, host string) (*Answer, error) {
	cert, err := client.TLSALPN01ChallengeCert(chal.Token, host)
	if err != nil {
		return nil, err
	}
	key, ok := cert.PrivateKey.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("challenge key of type %T cannot sign", cert.PrivateKey)
	}
	data, err := bundle.Encode(key, cert.Certificate)
	if err != nil {
		return nil, err
	}
	answer := &Answer{typ: TLSALPN01, host: host, cert: &cert}
	a.add(ctx, TLSALPN01Key(host), data, answer)
	return answer, nil
}

func (a *Answers) presentHTTP01(ctx context.Context, client *acme.Client, chal *acme.Challenge, host string) (*Answer, error) {
	if !IsToken(chal.Token) {
		return nil, fmt.Errorf("the CA's token %q is not base64url", text.OneLine(chal.Token, 64))
	}
	body, err := client.HTTP01ChallengeResponse(chal.Token)
	if err != nil {
		return nil, err
	}
	answer := &Answer{typ: HTTP01, host: host, body: []byte(body)}
	a.add(ctx, HTTP01Key(chal.Token), answer.body, answer)
	return answer, nil
}

// add makes an answer available under key, which is also its key in the Cache.
func (a *Answers) add(ctx context.Context, key string, data []byte, answer *Answer) {
	a.mu.Lock()
	a.live[key] = answer
	if answer.typ == HTTP01 {
		a.stored[key] = answer.host
	}
	a.mu.Unlock()
	answer.stored = a.store.Put(ctx, key, data) == nil
	answer.remove = func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.live[key] == answer {
			delete(a.live, key)
		}
	}
	later := answer.stored
	answer.forget = func(ctx context.Context) (deleted bool) {
		defer a.forgetHost(key)
		if a.store.Delete(ctx, key) == nil {
			return true
		}
		if later {
			later = false // once is enough
			a.store.DeleteLater(key, data)
		}
		return false
	}
}

func (a *Answers) forgetHost(key string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.stored, key)
}

// IsForeign reports whether the http-01 answer to a token is from this process,
// and for another host. Until it is deleted from the Cache, it could be read
// there for any. Of an answer that another machine has put there nobody knows
// the host.
func (a *Answers) IsForeign(host, token string) bool {
	a.mu.RLock()
	defer a.mu.RUnlock()
	owner, known := a.stored[HTTP01Key(token)]
	return known && owner != host
}

// Withdraw deletes the answer to a challenge that is decided from the Cache, if a
// process that was killed left it there. It reports whether none is left.
func (a *Answers) Withdraw(ctx context.Context, chal *acme.Challenge, host string) (done bool) {
	switch {
	case chal.Type == TLSALPN01:
		return a.store.Delete(ctx, TLSALPN01Key(host)) == nil
	case chal.Type == HTTP01 && IsToken(chal.Token):
		return a.store.Delete(ctx, HTTP01Key(chal.Token)) == nil
	}
	return true
}

func (a *Answers) get(key string) *Answer {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.live[key]
}

// Certificate returns a copy of the certificate that answers a tls-alpn-01
// challenge for host and counts the request. It returns nil if no challenge is
// pending here.
func (a *Answers) Certificate(host string) *tls.Certificate {
	answer := a.get(TLSALPN01Key(host))
	if answer == nil {
		return nil
	}
	answer.seen.Add(1)
	return &tls.Certificate{Certificate: slices.Clip(answer.cert.Certificate), PrivateKey: answer.cert.PrivateKey}
}

// KeyAuthorization returns the body that answers an http-01 challenge for host
// and counts the request. It returns nil if no challenge is pending here. The
// body must not be changed.
func (a *Answers) KeyAuthorization(host, token string) []byte {
	answer := a.get(HTTP01Key(token))
	if answer == nil || answer.host != host {
		return nil
	}
	answer.seen.Add(1)
	return answer.body
}

// Awaits reports whether a tls-alpn-01 challenge for host is pending here.
func (a *Answers) Awaits(host string) bool { return a.get(TLSALPN01Key(host)) != nil }

// Proof returns the expected response: the certificate in DER (tls-alpn-01) or
// the key authorization (http-01). It must not be changed.
func (a *Answer) Proof() []byte {
	if a.cert != nil {
		return a.cert.Certificate[0]
	}
	return a.body
}

// Stored reports whether the Cache has accepted the answer. If not, other
// machines cannot serve it.
func (a *Answer) Stored() bool { return a.stored }

// Remove removes the answer from this process. A later answer to the same
// challenge stays.
func (a *Answer) Remove() { a.remove() }

// Forget deletes the answer from the Cache, and reports whether it did. If not,
// it is deleted in the background unless the Manager is closed.
func (a *Answer) Forget(ctx context.Context) (deleted bool) { return a.forget(ctx) }
