package certmgr

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/capped"
	"github.com/nostall/nostall/internal/flight"
)

// loader loads certificates from the Cache into memory. Concurrent handshakes
// for a host share a read: it is short and bounded, and without it a restart
// with a warm cache would refuse them.
type loader struct {
	*env
	gate   *gate
	health *health
	memory *memory
	store  *store
	keys   *keySource
	keeper keeper
	flight *flight.Flight[cacheRead, *certificate]

	mu     sync.Mutex
	misses capped.Map[subject, time.Time] // recent misses, some of them outdated
}

// maxMisses is the largest number of misses remembered.
const maxMisses = 10_000

// A manner says how to read: an unusable entry is reported when a handshake first
// finds it (loud), and not each time it is read again (quietly). What another
// machine has just written is found only by a read that begins now (freshly), and
// does not join one that is under way.
type manner uint8

const (
	loud manner = iota
	quietly
	freshly
)

// cacheRead identifies a shared read: of all of a host's entries, not of each
// entry. A client that leaves after 3 s would not get through two certificates
// and a record that take 1.5 s each, and the next client would start again.
// Handshakes that arrive meanwhile get the result of the read.
type cacheRead struct {
	host string
	want keyTypePrefs
}

func (r cacheRead) String() string {
	return fmt.Sprintf("%s %v of %b", r.host, r.want.first, r.want.can)
}

// load returns a certificate for host that the client can use. The error is
// ErrCacheMiss, or wraps ErrCache. After a miss, the Cache's record of failures
// for the preferred key type is in memory too.
func (l *loader) load(ctx context.Context, host string, want keyTypePrefs, g grant) (*certificate, error) {
	call, err := l.flight.Start(cacheRead{host, want}, l.search(host, want, g))
	if err != nil {
		return nil, err
	}
	return call.Wait(ctx)
}

// loadInTask is load for tasks, which do not count against MaxWaiting.
func (l *loader) loadInTask(ctx context.Context, host string, want keyTypePrefs, g grant) (*certificate, error) {
	return l.flight.Do(ctx, cacheRead{host, want}, l.search(host, want, g))
}

// search returns the body of a load's call.
func (l *loader) search(host string, want keyTypePrefs, g grant) func(context.Context) (*certificate, error) {
	return func(ctx context.Context) (*certificate, error) {
		first := l.subject(host, want.first)
		for _, alg := range want.types() {
			cert, err := l.readFor(ctx, l.subject(host, alg), host, g, loud)
			if cert != nil && alg != want.first {
				l.noteMiss(first)
			}
			if cert != nil && cert.class&want.can == 0 {
				continue // with a key of another type than the host's
			}
			if !errors.Is(err, ErrCacheMiss) {
				return cert, err
			}
		}
		if now := l.wantOf(host, want.can, l.memory.hosts.Get(host)); now.first != want.first {
			first = l.subject(host, now.first)
			if cert, err := l.read(ctx, first, g, loud); !errors.Is(err, ErrCacheMiss) {
				return cert, err
			}
		}
		return l.miss(ctx, first, g)
	}
}

// miss reads the record of failures for sub, and records that there is no
// certificate.
func (l *loader) miss(ctx context.Context, sub subject, g grant) (*certificate, error) {
	if cert, err := l.recall(ctx, sub, g); !errors.Is(err, ErrCacheMiss) {
		return cert, err
	}
	l.noteMiss(sub)
	return nil, ErrCacheMiss
}

// noteMiss records that the Cache has no certificate for sub.
func (l *loader) noteMiss(sub subject) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.misses.Max = maxMisses
	l.misses.Put(sub, l.now(), time.Time.Before)
}

// recall reads the record of failures for sub, whose certificate was found to
// be missing. If the record cannot be read, that may be because the Cache has
// just failed as a whole: then the certificate cannot be read again either, and
// must not be ordered. Otherwise the error is ErrCacheMiss. A certificate that
// has turned up is returned.
func (l *loader) recall(ctx context.Context, sub subject, g grant) (*certificate, error) {
	if l.health.recall(ctx, sub, g) == nil {
		return nil, ErrCacheMiss
	}
	return l.read(ctx, sub, g, quietly)
}

// missedLately reports whether a recent read for sub was a miss.
func (l *loader) missedLately(sub subject) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	at, ok := l.misses.Get(sub)
	since := l.now().Sub(at)
	return ok && since >= 0 && since < rereadEvery
}

// read loads the certificate in the Cache for one subject into memory and
// returns it. An entry that cannot be served is a miss. Call it in tasks only.
func (l *loader) read(ctx context.Context, sub subject, g grant, how manner) (*certificate, error) {
	if sub.group {
		return l.readShared(ctx, sharedRead{
			sub:   sub,
			host:  sub.host(),
			whole: true,
			g:     g,
			how:   how,
		})
	}
	cert, err := l.readEntry(ctx, sub, sub.cacheKey(), g, how)
	if err != nil {
		return nil, err
	}
	return l.bring(cert, g)
}

// bring is read for a certificate whose entry was read.
func (l *loader) bring(cert *certificate, g grant) (*certificate, error) {
	sub := cert.subject
	if have := l.memory.current(sub); have != nil && have.leaf.Equal(cert.leaf) {
		return have, nil
	}
	kept, offList := l.memory.adopt(cert, g, l.now(), func() *refusal { return l.gate.offList(sub.host()) })
	switch {
	case offList != nil:
		l.keeper.drop(sub.host(), offList) // and what the visitor left, who was early enough
		return nil, offList
	case kept == nil:
		return nil, ErrCacheMiss // revoked a moment ago
	case kept != cert:
		return kept, nil
	}
	l.adopted(cert, g)
	return cert, nil
}

// get reads an entry.
func (l *loader) get(ctx context.Context, reads *flight.Callouts, key string, how manner) ([]byte, error) {
	if how == freshly {
		return l.store.read(ctx, reads, key)
	}
	return l.store.getInTask(ctx, reads, key)
}

// readEntry returns the certificate in the Cache under a key.
func (l *loader) readEntry(ctx context.Context, sub subject, key string, g grant, how manner) (*certificate, error) {
	reads := l.store.reads
	if g.trust == untrusted {
		reads = l.store.untrusted
	}
	data, err := l.get(ctx, reads, key, how)
	if err != nil {
		return nil, err
	}
	cert, err := l.parse(ctx, sub, data)
	if err != nil {
		return nil, l.reject(ctx, rejected{sub, key, how}, err)
	}
	cert.entry = key
	return cert, nil
}

// parse returns the certificate of an entry if it can be served.
func (l *loader) parse(ctx context.Context, sub subject, data []byte) (*certificate, error) {
	cert, err := certificateFromBundle(sub, data, l.now())
	if err == nil && l.memory.isBarred(cert.leaf) {
		err = errRevoked
	}
	if err == nil {
		err = l.keys.attach(ctx, cert)
	}
	if err != nil {
		return nil, err
	}
	return cert, nil
}

// adopted reports and plans a certificate that was loaded.
func (l *loader) adopted(cert *certificate, g grant) {
	sub := cert.subject
	if cert.dates().ByAge(l.settings.renewBefore).After(l.now()) {
		l.health.failures.forget(sub) // otherwise the failure is that of its renewal
	}
	l.keeper.scheduleLoaded(cert)
	if l.keeper.notDueBefore(sub).After(l.now()) {
		l.health.dns.end(sub.id(), endedByOther)
	}
	e := certEvent(audit.CertificateLoaded, cert)
	e.Decision, e.Rule = audit.Allowed, g.rule(sub.host())
	e.Reason = "issued by " + issuerOf(cert.leaf)
	l.audit.Emit(e)
	if l.authority.distrusts(cert) {
		e := certEvent(audit.CertificateUntrusted, cert)
		e.Reason = "it was issued by " + issuerOf(cert.leaf) + ", a CA for tests that clients do not trust; it is served until it has been replaced"
		l.audit.Emit(e)
	}
}

// rejected is an entry of the Cache that cannot be served.
type rejected struct {
	sub subject
	key string
	how manner
}

// reject returns the error for an entry that cannot be served: it counts as
// missing, unless its private key may yet be had from KeySource.
func (l *loader) reject(ctx context.Context, r rejected, err error) error {
	e := audit.Event{
		Kind:    audit.CacheEntryRejected,
		Host:    r.sub.host(),
		KeyType: r.sub.alg.String(),
		Reason:  "the entry under \"" + r.key + "\" counts as missing",
		Err:     err,
	}
	if errors.Is(err, ErrKeySource) {
		if ctx.Err() == nil {
			e.Reason = "the private key for the entry under \"" + r.key + "\" cannot be had; no order is placed"
			l.reports.report(r.key, e)
		}
		return err
	}
	if r.how == loud {
		l.reports.report(r.key, e)
	}
	return ErrCacheMiss
}
