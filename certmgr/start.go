package certmgr

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/flight"
)

// starter implements Start: it brings the hosts on the list into memory.
type starter struct {
	*env
	gate     *gate
	health   *health
	memory   *memory
	loader   *loader
	profiles *profiles
	progress *progress
	schedule *schedule
	visits   *visits
	many     *manyReader
}

// Start loads every exact name in Hosts from the Cache, or issues a certificate
// for it, in the background; it does not block. audit.StartProgress reports its
// progress. StartPace limits the rate for thousands of new hosts; hosts that
// clients are asking for go first. Names added to the list later get their
// certificates at their first handshake, or by another Start. With
// preflight.Enforce each name is probed first, 20 a second; those that do not lead
// here wait for DNS and hold up no other, also after ctx has ended. Failures are
// retried by the backoff for as long as the host is allowed. When ctx ends, so
// does the work that Start began; handshakes and renewals continue until Close.
//
// Nothing is issued for a host with a certificate in Manager.Certificates until
// that one is about to expire.
//
// It returns ErrClosed after Close, and ErrHostNotAllowed if neither Hosts nor
// HostPolicy nor Certificates is set, since no host can ever be served then. An
// empty list, which names may be added to, is no error. If a setting is invalid,
// Start begins its work all the same, without that setting, and returns an error
// that wraps ErrBadSetting. A profile that the CA does not offer is told by an
// event.
func (m *Manager) Start(ctx context.Context) error {
	m.init()
	s := m.engine.starter
	if ctx == nil {
		panic("certmgr: Start with a nil context")
	}
	if m.engine.settings.servesNobody() {
		return &refusal{kind: ErrHostNotAllowed, text: allowsNobody("example.com")}
	}
	var hosts []string
	for name := range m.Hosts.All() {
		if !strings.HasPrefix(name, "*.") {
			hosts = append(hosts, name)
		}
	}
	slices.Sort(hosts)
	s.visits.began() // watch hosts that no client asks for, too
	if !s.tasks.Go(func(tasksCtx context.Context) { s.start(ctx, tasksCtx, hosts) }) {
		return ErrClosed
	}
	return m.engine.settings.invalid()
}

// start brings hosts into memory. It returns when all are, or when one of the
// contexts ends.
func (s *starter) start(ctx, tasksCtx context.Context, hosts []string) {
	tasksCtx, cancel := context.WithCancel(tasksCtx)
	defer cancel()
	defer context.AfterFunc(ctx, cancel)()
	p := s.progress.begin(hosts)
	defer s.progress.end(p)
	s.awaitOwn(tasksCtx)
	// Load everything that is in the cache before issuing the rest.
	s.warm(tasksCtx, hosts)
	var mu sync.Mutex
	var missing []string
	eachHost(tasksCtx, hosts, func(host string) {
		if s.preload(tasksCtx, host) {
			mu.Lock()
			defer mu.Unlock()
			missing = append(missing, host)
		}
	})
	s.progress.report(p)
	s.tasks.Go(s.checkProfiles)
	slices.Sort(missing)
	for _, host := range missing {
		if tasksCtx.Err() == nil {
			s.schedule.first(s.preferred(host))
		}
	}
	s.progress.watch(tasksCtx, p) // hosts no longer wanted are dropped when their turn comes
}

// checkProfiles tells of profiles that the CA does not offer. It waits for those
// who read the directory anyway, and asks nothing of a CA that is out of service.
func (s *starter) checkProfiles(ctx context.Context) {
	if len(s.settings.profiles.all) == 0 || flight.Sleep(ctx, profilesAge) != nil {
		return
	}
	s.health.breakerStore.restore(ctx)
	if s.health.breaker.state().failures == 0 {
		s.profiles.checkAll(ctx)
	}
}

// readers is how many hosts Start reads from the cache concurrently.
const readers = 64

// eachHost calls f for each of hosts, some concurrently, until ctx ends.
func eachHost(ctx context.Context, hosts []string, f func(host string)) {
	queue := make(chan string)
	var wg sync.WaitGroup
	for range min(len(hosts), readers) {
		wg.Go(func() {
			for host := range queue {
				f(host)
			}
		})
	}
	defer wg.Wait()
	defer close(queue)
	for _, host := range hosts {
		select {
		case queue <- host:
		case <-ctx.Done():
			return
		}
	}
}

// preload loads a host and reports whether the cache has no certificate for it.
func (s *starter) preload(ctx context.Context, host string) (missing bool) {
	d := s.gate.permit(ctx, host)
	if d.is != audit.Allowed {
		s.progress.have(host) // removed from the list since
		return false
	}
	if now := s.now(); s.own.until(host, now).After(now) {
		s.progress.have(host)
		return false
	}
	var err error
	cert := s.memory.get(host, s.anyWant(host), s.now())
	if cert == nil {
		cert, err = s.loader.load(ctx, host, s.anyWant(host), d.grant)
	}
	switch {
	case cert != nil:
		s.progress.have(host)
	case err != nil && !errors.Is(err, ErrCacheMiss) && ctx.Err() == nil:
		sub := s.preferred(host)
		s.schedule.firstAt(sub, s.health.retryAt(sub))
	}
	return errors.Is(err, ErrCacheMiss)
}
