package certmgr

import (
	"context"
	"slices"

	"github.com/nostall/nostall/certmgr/cache"
	"github.com/nostall/nostall/internal/flight"
)

// manyReader reads many entries of the Cache in one request, with a time-out.
type manyReader struct {
	settings *settings
	calls    *flight.Callouts
}

// warmBatch is how many entries Start reads in one request.
const warmBatch = 500

// getMany returns those of the entries that there are.
func (r *manyReader) getMany(ctx context.Context, keys []string) (map[string][]byte, error) {
	in, cancel := context.WithTimeout(ctx, cacheTimeout)
	defer cancel()
	return flight.CallOut(in, r.calls, keys[0], func(ctx context.Context) (map[string][]byte, error) {
		return cache.GetMany(ctx, r.settings.cache, keys)
	})
}

// warm loads the certificates of hosts that are on the list by name, many in one
// request, if the Cache can do that, and no key has to be asked for. Whatever is not
// found, or goes wrong, is left to preload, which looks at one host at a time and tells
// of it.
func (s *starter) warm(ctx context.Context, hosts []string) {
	if _, ok := s.settings.cache.(cache.BatchGetter); !ok || s.loader.keys.isSet() {
		return
	}
	for batch := range slices.Chunk(hosts, warmBatch) {
		subs := make(map[string]subject, len(batch))
		var keys []string
		now := s.now()
		for _, host := range batch {
			sub := s.preferred(host)
			if !sub.group && s.memory.hosts.Get(host) == nil && !s.own.until(host, now).After(now) {
				subs[sub.cacheKey()] = sub
				keys = append(keys, sub.cacheKey())
			}
		}
		if len(keys) == 0 {
			continue
		}
		entries, err := s.many.getMany(ctx, keys)
		eachHost(ctx, keys, func(key string) {
			if data, ok := entries[key]; ok {
				s.warmOne(ctx, subs[key], data)
			}
		})
		if err != nil {
			return
		}
	}
}

// warmOne loads one certificate from its entry.
func (s *starter) warmOne(ctx context.Context, sub subject, data []byte) {
	trust := s.settings.trustOf(sub.host())
	if trust == notAllowed { // removed from the list since
		return
	}
	if cert, err := s.loader.parse(ctx, sub, data); err == nil {
		s.loader.bring(cert, grant{trust: trust})
	}
}
