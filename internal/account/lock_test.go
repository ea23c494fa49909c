package account

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr/audit"
)

// siteLock is the lock of a site's machines.
type siteLock struct {
	mu     sync.Mutex
	holder *siteLease // or nil
	taken  int        // how often
}

// siteLease is the lock while a machine has it.
type siteLease struct {
	of     *siteLock
	isDead func() bool // the machine's process has ended
	cancel context.CancelCauseFunc
}

type siteLeaseKey struct{}

var errLost = errors.New("the lease has ended")

// by returns the lock for one machine. It waits for a minute. The lock of a dead
// machine is free.
func (l *siteLock) by(isDead func() bool) Lock {
	return func(ctx context.Context) (context.Context, func(), error) {
		for range 200 {
			if lease := l.try(isDead); lease != nil {
				locked, cancel := context.WithCancelCause(context.WithValue(ctx, siteLeaseKey{}, lease))
				lease.cancel = cancel
				return locked, func() { lease.end(); cancel(nil) }, nil
			}
			time.Sleep(300 * time.Millisecond)
		}
		return nil, nil, errors.New("held by another machine")
	}
}

func (l *siteLock) try(isDead func() bool) *siteLease {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.holder != nil && !l.holder.isDead() {
		return nil
	}
	l.taken++
	l.holder = &siteLease{of: l, isDead: isDead}
	return l.holder
}

// expire ends the lease of a machine that was paused.
func (l *siteLock) expire() {
	l.mu.Lock()
	lease := l.holder
	l.holder = nil
	l.mu.Unlock()
	lease.cancel(errLost)
}

func (l *siteLock) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.taken
}

func (l *siteLease) end() {
	l.of.mu.Lock()
	defer l.of.mu.Unlock()
	if l.of.holder == l && !l.isDead() {
		l.of.holder = nil
	}
}

// fenced is a store that refuses the writes of a lease that has ended, and those
// without one.
type fenced struct{ Store }

func checkLease(ctx context.Context) error {
	l, _ := ctx.Value(siteLeaseKey{}).(*siteLease)
	if l == nil {
		return errors.New("written without the lock")
	}
	l.of.mu.Lock()
	defer l.of.mu.Unlock()
	if l.of.holder != l {
		return errLost
	}
	return nil
}

func (f fenced) Put(ctx context.Context, name string, data []byte) error {
	if err := checkLease(ctx); err != nil {
		return err
	}
	return f.Store.Put(ctx, name, data)
}

func (f fenced) Delete(ctx context.Context, name string) error {
	if err := checkLease(ctx); err != nil {
		return err
	}
	return f.Store.Delete(ctx, name)
}

// locking returns a setup with the lock. c may be nil.
func (s *site) locking(l *siteLock, c *crash) setup {
	set := s.setup()
	set.store = fenced{s.store}
	isDead := func() bool { return false }
	if c != nil {
		set.store = &crashStore{set.store, c}
		set.transport = c.transport(set.transport)
		isDead = func() bool {
			c.mu.Lock()
			defer c.mu.Unlock()
			return c.dead
		}
	}
	set.lock = l.by(isDead)
	return set
}

// useAll has all machines use the account at the same time.
func useAll(t *testing.T, machines []*machine) {
	t.Helper()
	var wg sync.WaitGroup
	for i, m := range machines {
		wg.Go(func() {
			if err := m.use(t.Context()); err != nil {
				t.Errorf("machine %d: %v", i, err)
			}
		})
	}
	wg.Wait()
}

func TestMachinesWithALockRegisterOnce(t *testing.T) {
	atSite(t, func(t *testing.T, s *site) {
		lock := new(siteLock)
		s.store.hook(func(string) error { time.Sleep(20 * time.Millisecond); return nil }, nil)
		keys, registrations := 0, 0
		var mu sync.Mutex
		var machines []*machine
		for range 3 {
			set := s.locking(lock, nil)
			base := set.transport
			set.transport = roundTripper(func(r *http.Request) (*http.Response, error) {
				res, err := base.RoundTrip(r)
				if err == nil && res.StatusCode == http.StatusCreated && strings.Contains(r.URL.Path, "acc") {
					mu.Lock()
					defer mu.Unlock()
					registrations++
				}
				return res, err
			})
			machines = append(machines, s.boot(set))
		}
		s.store.hook(nil, func(string) error {
			mu.Lock()
			defer mu.Unlock()
			keys++
			return nil
		})
		useAll(t, machines)
		s.wantSettled()
		if keys != 1 || registrations != 1 {
			t.Errorf("%d keys were stored, and %d accounts registered; want one of each", keys, registrations)
		}
	})
}

// With one key that the CA knows, nothing needs to be written.
func TestAccountThatExistsIsFoundWithoutTheLock(t *testing.T) {
	atSite(t, func(t *testing.T, s *site) {
		lock := new(siteLock)
		s.restart(s.locking(lock, nil))
		s.mustUse()
		taken := lock.count()
		s.restart(s.locking(lock, nil))
		s.mustUse()
		if n := lock.count(); taken != 1 || n != taken {
			t.Errorf("the lock was taken %d times for a new account, and %d times after a restart", taken, n-taken)
		}
	})
}

// The steps of a registration.
var registerSteps = []string{"put acme_account+key", "ask /directory", "ask /new-account"}

func TestDeadMachineLeavesOneAccountToItsSuccessor(t *testing.T) {
	for _, step := range registerSteps {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, after %v", step, after), func(t *testing.T) {
				atSite(t, func(t *testing.T, s *site) {
					lock, c := new(siteLock), &crash{at: step, after: after}
					machines := []*machine{s.boot(s.locking(lock, c)), s.boot(s.locking(lock, nil)), s.boot(s.locking(lock, nil))}
					machines[0].use(t.Context())
					if !c.dead {
						t.Fatalf("nothing happened; the steps were %q", c.steps)
					}
					stored := s.keyIn(currentEntry)
					useAll(t, machines[1:])
					s.wantSettled()
					if now := s.keyIn(currentEntry); stored != "" && now != stored {
						t.Errorf("the key %.8s was stored, and %.8s is used", stored, now)
					}
				})
			})
		}
	}
}

func TestDeadMachineLeavesAKeyChangeToItsSuccessor(t *testing.T) {
	for _, step := range changeSteps {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, after %v", step, after), func(t *testing.T) {
				atSite(t, func(t *testing.T, s *site) {
					lock, c := new(siteLock), &crash{at: step, after: after}
					machines := []*machine{s.boot(s.locking(lock, c)), s.boot(s.locking(lock, nil)), s.boot(s.locking(lock, nil))}
					useAll(t, machines[1:])
					old := s.account()
					machines[0].ChangeKey(t.Context())
					if !c.dead {
						t.Fatalf("nothing happened; the steps were %q", c.steps)
					}
					useAll(t, machines[1:])
					if err := machines[1].ChangeKey(t.Context()); err != nil {
						t.Errorf("ChangeKey of another machine: %v", err)
					}
					useAll(t, machines[1:])
					s.wantSettled()
					s.wantChanged(old, true)
				})
			})
		}
	}
}

func TestMachinesThatChangeTheKeyAtOnceFollowOneAnother(t *testing.T) {
	atSite(t, func(t *testing.T, s *site) {
		lock := new(siteLock)
		var machines []*machine
		for range 3 {
			machines = append(machines, s.boot(s.locking(lock, nil)))
		}
		useAll(t, machines)
		old := s.account()
		var wg sync.WaitGroup
		for i, m := range machines {
			wg.Go(func() {
				if err := m.ChangeKey(t.Context()); err != nil {
					t.Errorf("machine %d: %v", i, err)
				}
			})
		}
		wg.Wait()
		useAll(t, machines)
		s.wantSettled()
		s.wantChanged(old, true)
	})
}

// pausedAt is the store of a machine that is paused at its first write of an
// entry, until it goes on.
type pausedAt struct {
	Store
	name           string
	once           sync.Once
	paused, resume chan struct{}
}

func (p *pausedAt) Put(ctx context.Context, name string, data []byte) error {
	if name == p.name {
		p.once.Do(func() {
			close(p.paused)
			<-p.resume
		})
	}
	return p.Store.Put(ctx, name, data)
}

// A machine that was paused for longer than its lease does not overwrite the key
// that its successor stored, at once or later, and uses that one.
func TestPausedMachineKeepsItsSuccessorsKey(t *testing.T) {
	for _, at := range []string{nextEntry, currentEntry} {
		t.Run(at, func(t *testing.T) {
			atSite(t, func(t *testing.T, s *site) {
				lock := new(siteLock)
				p := &pausedAt{name: at, paused: make(chan struct{}), resume: make(chan struct{})}
				other := s.boot(s.locking(lock, nil))
				useAll(t, []*machine{other})
				set := s.locking(lock, nil)
				p.Store = set.store
				set.store = p
				m := s.boot(set)
				changed := make(chan error)
				go func() { changed <- m.ChangeKey(t.Context()) }()
				<-p.paused
				lock.expire()
				if err := other.ChangeKey(t.Context()); err != nil {
					t.Fatalf("ChangeKey of the successor: %v", err)
				}
				if err := other.ChangeKey(t.Context()); err != nil {
					t.Fatalf("the second ChangeKey of the successor: %v", err)
				}
				stored := s.keyIn(currentEntry)
				close(p.resume)
				if err := <-changed; at == nextEntry && (!errors.Is(err, errLost) || !IsUnavailable(err)) {
					t.Errorf("the paused ChangeKey ended with %v, want that the lease has ended and that it is not the CA's fault", err)
				}
				time.Sleep(time.Hour)
				useAll(t, []*machine{m, other})
				s.wantSettled()
				if now := s.keyIn(currentEntry); now != stored {
					t.Errorf("the successor stored the key %.8s, and now there is %.8s", stored, now)
				}
			})
		})
	}
}

func TestLockThatCannotBeHadIsNotTheCAsFault(t *testing.T) {
	atSite(t, func(t *testing.T, s *site) {
		set := s.setup()
		set.lock = func(context.Context) (context.Context, func(), error) { return nil, nil, errDisk }
		s.restart(set)
		err := s.m.use(t.Context())
		if !errors.Is(err, errDisk) || !IsUnavailable(err) {
			t.Errorf("the first use ended with %v, want one that is the lock's fault", err)
		}
		if n := len(s.ca.Accounts()); n != 0 {
			t.Errorf("%d accounts were registered without the lock", n)
		}
		if s.keyIn(currentEntry) != "" {
			t.Error("a key was stored without the lock")
		}
	})
}

func TestContactIsChangedUnderTheLock(t *testing.T) {
	atSite(t, func(t *testing.T, s *site) {
		lock := new(siteLock)
		useAll(t, []*machine{s.boot(s.locking(lock, nil))})
		taken := lock.count()
		set := s.locking(lock, nil)
		set.email = "ops@example.com"
		var machines []*machine
		for range 3 {
			machines = append(machines, s.boot(set))
		}
		useAll(t, machines)
		s.account()
		if n := len(s.events.of(audit.AccountContactChanged)); n != 1 {
			t.Errorf("%d machines changed the contact, want one", n)
		}
		if lock.count() == taken {
			t.Error("the contact was changed without the lock")
		}
	})
}
