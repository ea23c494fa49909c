package certmgr

import (
	"context"
	"errors"
)

// readFor is read for a host that somebody asks for. A member of a group that has no
// certificate may have one of its own, from before it was in the group.
func (l *loader) readFor(ctx context.Context, sub subject, host string, g grant, how manner) (*certificate, error) {
	if !sub.group {
		cert, err := l.read(ctx, sub, g, how)
		if !errors.Is(err, ErrCacheMiss) || l.settings.hosts.group(host) == nil {
			return cert, err
		}
		// Its group's certificate lacks it. One from before may not.
		return l.readPointed(ctx, sharedRead{sub: l.groupSubject(l.settings.hosts.group(host), sub.alg), host: host, g: g, how: how})
	}
	cert, err := l.readShared(ctx, sharedRead{sub: sub, host: host, g: g, how: how})
	if !errors.Is(err, ErrCacheMiss) {
		return cert, err
	}
	return l.read(ctx, l.ownSubject(host, sub.alg), g, how)
}

// sharedRead is a read of the certificate of a group for one of its members.
type sharedRead struct {
	sub   subject
	host  string
	whole bool // it is for the group: its latest certificate may lack the host
	g     grant
	how   manner
}

// readShared loads the certificate of a group. It is in the Cache under the names
// that it was ordered for, which are usually those of the group. If that is no news or
// due, there may be a later one for fewer names. If a host is in neither, an entry of
// its own says where.
func (l *loader) readShared(ctx context.Context, r sharedRead) (*certificate, error) {
	names := l.groupOf(r.sub).Names()
	if len(names) == 0 {
		return nil, ErrCacheMiss
	}
	before := l.memory.current(r.sub)
	cert, err := l.readGroupEntry(ctx, groupCacheKey(names, r.sub.alg), r)
	if err != nil && !errors.Is(err, ErrCacheMiss) {
		return nil, err
	}
	if cert != nil && cert != before && cert.dates().ByAge(l.settings.renewBefore).After(l.now()) {
		return cert, nil
	}
	if later := l.readLatest(ctx, r); later != nil && (r.whole || later.covers(r.host)) {
		return later, nil
	}
	if cert != nil {
		return cert, nil
	}
	return l.readPointed(ctx, r)
}

// readPointed is readShared for the certificate that the entry of a host names. An
// entry that cannot be read counts as missing; it has been reported.
func (l *loader) readPointed(ctx context.Context, r sharedRead) (*certificate, error) {
	data, err := l.get(ctx, l.store.reads, pointerCacheKey(r.host, r.sub.alg), r.how)
	if err != nil || !isGroupCacheKey(string(data), r.sub.alg) {
		return nil, ErrCacheMiss
	}
	return l.readGroupEntry(ctx, string(data), r)
}

// readGroupEntry loads the certificate under a key for a host and the other members
// of its group that it covers.
func (l *loader) readGroupEntry(ctx context.Context, key string, r sharedRead) (*certificate, error) {
	sub, p := r.sub, placement{sub: r.sub, host: r.host, own: l.ownSubject(r.host, r.sub.alg)}
	cert, err := l.readEntry(ctx, p.own, key, r.g, r.how)
	if err != nil {
		return nil, err
	}
	if have := at(l.memory, r.host, sub.alg); have != nil && have.leaf.Equal(cert.leaf) {
		return have, nil
	}
	for _, name := range l.groupOf(sub).Names() {
		if cert.covers(name) {
			p.names = append(p.names, name)
		}
	}
	if len(p.names) == 0 { // the group has changed a moment ago
		return nil, ErrCacheMiss
	}
	before := l.memory.current(sub)
	kept := adoptShared(l.memory, cert, r.g, l.now(), p)
	if kept == nil {
		return nil, ErrCacheMiss // revoked a moment ago
	}
	if kept != before && kept.leaf.Equal(cert.leaf) {
		l.adopted(kept, r.g)
	}
	return kept, nil
}

// entriesOf returns the keys of the Cache under which the certificate of a host may
// be.
func (s *operator) entriesOf(ctx context.Context, sub subject, host string) (keys []string) {
	if g := s.settings.hosts.group(host); g != nil {
		keys = append(keys, groupCacheKey(g.Names(), sub.alg))
		data, err := s.store.get(ctx, pointerCacheKey(host, sub.alg))
		if key := string(data); err == nil && isGroupCacheKey(key, sub.alg) && key != keys[0] {
			keys = append(keys, key)
		}
	}
	return append(keys, s.ownSubject(host, sub.alg).cacheKey())
}
