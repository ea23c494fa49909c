package certmgr

import (
	"context"
	"fmt"
	"strings"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/cache"
	"github.com/nostall/nostall/internal/bundle"
	"github.com/nostall/nostall/internal/flight"
	"github.com/nostall/nostall/internal/hosts"
)

// cacheFollower follows a Cache that returns copies while its store is down: what
// was served from outdated copies is loaded again, or leaves service.
type cacheFollower struct {
	*env
	gate     *gate
	memory   *memory
	store    *store
	loader   *loader
	schedule *schedule
}

// followCache follows the Cache until the Manager is closed, if it is a
// cache.Follower.
func (e *engine) followCache(f *cacheFollower) {
	c, ok := cache.As[cache.Follower](e.settings.cache)
	if !ok {
		return
	}
	calls := e.callout("Cache.Follow", 1).WithGrace(flight.Grace)
	e.tasks.Go(func(ctx context.Context) {
		flight.CallOut(ctx, calls, "", func(ctx context.Context) (struct{}, error) {
			for news := range c.Follow(ctx) {
				f.apply(ctx, news)
			}
			return struct{}{}, nil
		})
	})
}

// flushCache has the Cache end what it does in the background, if it can.
func (e *engine) flushCache(ctx context.Context) error {
	type flusher interface{ Flush(context.Context) error }
	c, ok := cache.As[flusher](e.settings.cache)
	if !ok {
		return nil
	}
	if err := c.Flush(ctx); err != nil {
		return fmt.Errorf("certmgr: close: %w", err)
	}
	return nil
}

// copiesGroup is the group of events about local copies.
const copiesGroup = "local copies"

// apply does what news call for.
func (f *cacheFollower) apply(ctx context.Context, news cache.News) {
	if err := news.Down; err != nil {
		err = &refusal{kind: ErrCache, text: "the store is down; no order is placed until it can be read", cause: err}
		if o := f.store.outage; o != nil {
			o.declare(err)
		} else {
			f.reports.reportAs(copiesGroup, audit.Event{
				Kind:   audit.CacheReadFailed,
				Reason: "certificates are served from local copies until the store answers",
				Err:    err,
			})
		}
	}
	if err := news.Copies; err != nil {
		f.reports.reportAs(copiesGroup, audit.Event{
			Kind:   audit.CacheWriteFailed,
			Reason: "the store is up to date, and its local copy is not",
			Err:    &refusal{kind: ErrCache, text: "writing a local copy; look at the disk", cause: err},
		})
	}
	f.reload(ctx, news.Changed, f.loadAgain)
	f.reload(ctx, news.Gone, f.withdraw)
}

// reload calls what for each certificate in memory that is from one of these
// entries, some concurrently.
func (f *cacheFollower) reload(ctx context.Context, keys []string, what func(context.Context, *certificate)) {
	if len(keys) == 0 {
		return
	}
	from := make(map[string][]*certificate, len(keys))
	for _, key := range keys {
		from[key] = nil
		if host := hostOfKey(key); strings.HasSuffix(key, groupSuffix) && host != "" {
			f.loadPointed(ctx, host)
		}
	}
	for cert := range f.memory.all() {
		if certs, ok := from[cert.entry]; ok {
			from[cert.entry] = append(certs, cert)
		}
	}
	eachHost(ctx, keys, func(key string) {
		for _, cert := range from[key] {
			what(ctx, cert)
		}
	})
}

// loadAgain loads a certificate whose entry has changed. One that is newer takes
// the place of the one in memory.
func (f *cacheFollower) loadAgain(ctx context.Context, cert *certificate) {
	host := cert.subject.host()
	if d := f.gate.permit(ctx, host); d.is == audit.Allowed {
		f.loader.read(ctx, cert.subject, d.grant, quietly)
	}
}

// loadPointed loads the certificate of a group whose key an entry of one of its
// hosts names, and which was another one.
func (f *cacheFollower) loadPointed(ctx context.Context, host string) {
	d := f.gate.permit(ctx, host)
	if d.is != audit.Allowed {
		return
	}
	for alg := range bundle.Algorithm(bundle.Algorithms) {
		if at(f.memory, host, alg) != nil {
			f.loader.readFor(ctx, f.subject(host, alg), host, d.grant, quietly)
		}
	}
}

// withdraw takes a certificate out of service that the store no longer has: another
// machine has revoked it, or somebody has deleted it. One that was issued here is
// about to be stored.
func (f *cacheFollower) withdraw(ctx context.Context, cert *certificate) {
	sub := cert.subject
	if cert.here {
		return
	}
	if _, err := f.store.getInTask(ctx, f.store.reads, cert.entry); err == nil { // it is back
		f.loadAgain(ctx, cert)
		return
	}
	// Perhaps the store is down again. The entry was missing a moment ago.
	if ctx.Err() != nil || f.memory.current(sub) != cert {
		return
	}
	f.memory.retire(cert)
	f.schedule.dropUnserved(sub)
	if f.settings.hosts.match(sub.host()) == hosts.Exact {
		f.schedule.at(sub, f.now())
	}
	e := certEvent(audit.CertificateWithdrawn, cert)
	e.Reason = "the store has no entry under \"" + cert.entry + "\" any more, of which a local copy was served"
	f.reports.report(cert.entry, e)
}
