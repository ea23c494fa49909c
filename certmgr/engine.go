package certmgr

import (
	"context"
	"math"
	"sync/atomic"
	"time"

	"github.com/nostall/nostall/certmgr/cache"
	"github.com/nostall/nostall/internal/account"
	"github.com/nostall/nostall/internal/acmeclient"
	"github.com/nostall/nostall/internal/bundle"
	"github.com/nostall/nostall/internal/challenge"
	"github.com/nostall/nostall/internal/flight"
)

// engine holds the components behind a Manager, from its first use until Close.
// Each has its own lock, if any, which is never held while anything blocks.
// They refer to each other in one direction only:
//
//	server, starter, operator, listWatch, report  what is asked of a Manager
//	dispatcher, renewals                          what is due, and doing it
//	loader, issuer                                where certificates come from
//	service, schedule                             what becomes of those in service
//	orders                                        the conversation with the CA
//	gate, health                                  who is let in, what does not work
//	store, memory, ...                            what they all use
type engine struct {
	*env
	server   *server
	starter  *starter
	operator *operator
	actions  *actions
	report   *report
	ca       *acmeclient.CA
	leases   *leases // nil if the Cache has no locks

	callouts []callouts // those that Close waits for; later ones use earlier ones
	unwatch  func()     // stops watching the list
	closing  atomic.Bool
	closed   chan struct{} // closed when Close is done
}

// Limits on concurrent callbacks. One that ignores its context holds its slot
// until it returns.
const (
	maxReads          = 4096
	maxTokenReads     = 256
	maxUntrustedReads = 1024
	maxWrites         = 1024
	maxPolicies       = 1024
	maxLookups        = 256 // PreflightResolver
	maxDials          = 1024
	maxManyReads      = 8
	maxPrunes         = 8 // calls that wait for one that runs
)

// newEngine creates and connects the components, from the bottom up.
func newEngine(m *Manager) *engine {
	e := &engine{env: newEnv(m), unwatch: func() {}, closed: make(chan struct{})}
	waiters := flight.NewWaiters(e.settings.maxWaiting, "MaxWaiting")
	memory := newMemory(func(host string) bool { return e.settings.trustOf(host) == listed })
	memory.first = func(host string) bundle.Algorithm { return e.settings.keyTypeOf(host).Algorithm() }
	failures := newFailures()
	store := e.newStore(waiters)
	e.leases = e.newLeases(store)
	visits := e.newVisits(store)
	gate := &gate{env: e.env, policy: e.newPolicy(waiters), memory: memory, failures: failures}
	dns := newDNSWaits(e.env, visits, e.newSharedWaits(store))
	health := newHealth(e.env, failures, dns, store, waiters)

	unfinished := &orderStore{env: e.env, memory: memory, store: store}
	progress := &progress{audit: e.audit}
	startPace := &startPace{every: e.settings.startPace}
	schedule := newSchedule(e.env, memory, progress, startPace)
	service := &service{
		env:        e.env,
		memory:     memory,
		failures:   failures,
		dns:        dns,
		unfinished: unfinished,
		progress:   progress,
		visits:     visits,
		schedule:   schedule,
		deliveries: e.newDeliveries(memory),
	}
	memory.onEvicted = service.evicted
	e.groups = newGroups(e.env, memory, failures, dns)
	dns.isDue = func(sub subject) bool { return service.notDueBefore(sub).IsZero() }
	budget := newOrderBudget(e.env, store, e.leases)
	keys := &keySource{env: e.env, memory: memory, calls: e.callout("KeySource", maxKeySources).FailFast(keyLoadTimeout)}
	orders := e.newOrders(store, memory, waiters, unfinished, budget)
	orders.keys = keys
	e.ca = orders.ca
	health.ask = func(ctx context.Context) error { return acmeclient.Probe(ctx, orders.ca) }
	loader := &loader{
		env:    e.env,
		keys:   keys,
		gate:   gate,
		health: health,
		memory: memory,
		store:  store,
		keeper: service,
		flight: flight.New[cacheRead, *certificate](e.tasks, waiters, cacheRead.String),
	}
	issuer := &issuer{
		env:       e.env,
		gate:      gate,
		health:    health,
		memory:    memory,
		store:     store,
		keeper:    service,
		orders:    orders,
		slots:     flight.NewSlots(e.settings.maxIssuing, priorities),
		locks:     issueLocks{new(processLock), e.newFleet(store, health, loader, unfinished)},
		issuances: newIssuances(),
		issues:    flight.New[subject, *certificate](e.tasks, waiters, subject.key),
		unlisted:  unlistedHosts{pacer: newPacer()},
	}
	renewals := &renewals{
		env:      e.env,
		gate:     gate,
		health:   health,
		memory:   memory,
		loader:   loader,
		issuer:   issuer,
		keeper:   service,
		progress: progress,
		schedule: schedule,
		visits:   visits,
	}
	if e.leases != nil {
		renewals.windows = &windowStore{env: e.env, store: store, leases: e.leases}
	}
	visits.onNeeded = func(host string, alg bundle.Algorithm) { renewals.needed(e.subject(host, alg)) }
	dispatcher := &dispatcher{
		now:      e.now,
		tasks:    e.tasks,
		schedule: schedule,
		worker:   renewals,
		woken:    make(chan struct{}, 1),
		onClockBack: []func(time.Time){
			failures.clockWentBack,
			dns.clockWentBack,
			visits.followClock,
			schedule.clockWentBack,
		},
	}
	schedule.changed = dispatcher.wake
	seconds := &seconds{
		env:    e.env,
		gate:   gate,
		health: health,
		memory: memory,
		loader: loader,
		issuer: issuer,
	}
	prober := &prober{
		env:      e.env,
		gate:     gate,
		health:   health,
		memory:   memory,
		loader:   loader,
		issuer:   issuer,
		schedule: schedule,
		changed:  make(chan struct{}, 1),
	}
	health.waiting.attend, health.breaker.changed = prober.start, prober.wake

	handshakes := &handshakes{settings: e.settings, audit: e.audit}
	if o := e.own; o != nil {
		o.waiters, o.handshakes, o.visits = waiters, handshakes, visits
	}
	e.server = &server{
		env:        e.env,
		gate:       gate,
		health:     health,
		memory:     memory,
		store:      store,
		loader:     loader,
		issuer:     issuer,
		seconds:    seconds,
		answers:    orders.answers,
		handshakes: handshakes,
		visits:     visits,
		rest:       flight.New[cacheRead, struct{}](e.tasks, waiters, cacheRead.String),
	}
	many := &manyReader{settings: e.settings, calls: e.callout("Cache.GetMany", maxManyReads)}
	e.starter = &starter{
		env:      e.env,
		gate:     gate,
		health:   health,
		memory:   memory,
		loader:   loader,
		profiles: orders.profiles,
		progress: progress,
		schedule: schedule,
		visits:   visits,
		many:     many,
	}
	e.operator = &operator{
		env:      e.env,
		gate:     gate,
		health:   health,
		memory:   memory,
		store:    store,
		loader:   loader,
		issuer:   issuer,
		schedule: schedule,
		revokes:  flight.Named[struct{}](e.tasks, waiters),
		many:     many,
		prunes:   e.callout("Prune", maxPrunes).WithGrace(flight.Grace),
	}
	e.actions = newActions(e.operator, dns, waiters, e.callout("reading the allowlist file", 1))
	e.report = &report{
		env:        e.env,
		health:     health,
		memory:     memory,
		schedule:   schedule,
		issuer:     issuer,
		handshakes: handshakes,
		visits:     visits,
		waiters:    waiters,
	}
	e.cleanCache()
	e.checkCache()
	e.followCache(&cacheFollower{
		env:      e.env,
		gate:     gate,
		memory:   memory,
		store:    store,
		loader:   loader,
		schedule: schedule,
	})
	e.watchOwn(&ownWatch{env: e.env, memory: memory, schedule: schedule, calls: e.callout("Certificates", 1).WithGrace(flight.Grace)})
	e.watch(&listWatch{
		env:        e.env,
		gate:       gate,
		memory:     memory,
		failures:   failures,
		dns:        dns,
		unfinished: unfinished,
		issuer:     issuer,
		keeper:     service,
		progress:   progress,
		visits:     visits,
	})
	return e
}

func (e *engine) newStore(w *flight.Waiters) *store {
	s := &store{
		settings:  e.settings,
		audit:     e.audit,
		reports:   e.reports,
		warnings:  e.warnings,
		tasks:     e.tasks,
		reads:     e.callout("Cache.Get", maxReads).FailFast(cacheTimeout),
		tokens:    e.callout("Cache.Get", maxTokenReads).FailFast(cacheTimeout),
		untrusted: e.callout("Cache.Get", maxUntrustedReads).FailFast(cacheTimeout),
		writes:    e.callout("Cache.Put or Delete", maxWrites),
		flight:    flight.Named[[]byte](e.tasks, w),
	}
	if e.settings.isFleet() {
		s.outage = &storeOutage{audit: e.audit, reports: e.reports, tasks: e.tasks}
		_, s.outage.copies = cache.As[cache.Follower](e.settings.cache)
		s.outage.probe = func(ctx context.Context) { s.read(ctx, s.reads, breakerCacheKey) }
	}
	return s
}

func (e *engine) newPolicy(w *flight.Waiters) *policy {
	p := &policy{settings: e.settings, reports: e.reports, onDeath: e.reports.panicked}
	p.workers = flight.NewWorkers(flight.WorkersConfig[answer]{
		Tasks:   e.tasks,
		Waiters: w,
		Name:    "HostPolicy",
		Limit:   maxPolicies,
		Timeout: policyTimeout,
		Call:    p.call,
		Value:   answerValue,
		ForKey:  askerKey{},
		OnDeath: p.onDeath,
	})
	e.callouts = append(e.callouts, p.workers)
	return p
}

// newVisits returns the visits, and keeps them in the Cache from the first one
// on.
func (e *engine) newVisits(s *store) *visits {
	keeper := &visitStore{env: e.env, store: s}
	keeper.visits = newVisits(e.settings.hosts, func() { e.tasks.Go(keeper.keepVisits) })
	return keeper.visits
}

func (e *engine) newOrders(s *store, m *memory, w *flight.Waiters, u *orderStore, b *orderBudget) *orders {
	client := &e.settings.client
	o := &orders{
		env:        e.env,
		memory:     m,
		unfinished: u,
		budget:     b,
		answers:    challenge.NewAnswers(answerStore{s}),
		ca: acmeclient.New(acmeclient.Config{
			DirectoryURL: e.dir,
			HTTPClient:   client.HTTPClient,
			UserAgent:    client.UserAgent,
			RetryBackoff: client.RetryBackoff,
			PlainHTTP:    e.settings.plainHTTP,
			OnOrigin: func(origin string) {
				e.warnings.warn("the CA of Manager.Client.DirectoryURL has requests sent to another origin, " + origin +
					": if that is not the CA's, its directory or a redirect leads astray")
			},
			OnDeath: func(d *flight.Death) { e.reports.panicked("Client.HTTPClient", d) },
			Now:     e.now,
		}),
	}
	o.checker = e.newChecker(o)
	o.profiles = newProfiles(e.env, o.ca, w)
	accounts := account.Config{
		CA:        o.ca,
		Directory: e.dir,
		PlainHTTP: e.settings.plainHTTP,
		UserAgent: client.UserAgent,
		Key:       client.Key,
		Email:     e.settings.email,
		Binding:   e.settings.externalAccountBinding,
		Prompt:    e.settings.prompt,
		Emit:      e.audit.Emit,
		Tasks:     e.tasks,
		Waiters:   w,
		Callout:   e.callout,
	}
	if e.settings.cache != nil {
		accounts.Store = accountEntries{s}
		accounts.Lock = e.newAccountLock()
	}
	o.accounts = account.New(accounts)
	o.calls = e.callout("issuance", math.MaxInt).WithGrace(attemptGrace) // limited by MaxIssuing
	return o
}

// watch watches the allowlist and its file for changes.
func (e *engine) watch(w *listWatch) {
	hosts := e.settings.hosts
	if hosts == nil {
		return
	}
	e.unwatch = hosts.watch(w.hostsChanged)
	if hosts.file != nil {
		looks := e.callout("looking at the allowlist file", 1)
		e.tasks.Go(func(ctx context.Context) { w.watchHostsFile(ctx, looks) })
	}
}

// callouts are calls of a user's callback.
type callouts interface {
	// Wait waits until none is running. If ctx ends first, the error names them.
	Wait(ctx context.Context) error
}

// callout creates the Callouts for one kind of callback, which Close will wait
// for.
func (e *engine) callout(name string, limit int) *flight.Callouts {
	c := flight.NewCallouts(name, limit).OnDeath(e.reports.panicked)
	e.callouts = append(e.callouts, c)
	return c
}
