package account

import (
	"context"
	"flag"
	"fmt"
	"sync"
	"testing"
	"time"
)

var allPauses = flag.Bool("account.pauses", false, "two machines: pause at each pair of steps")

// pausing is one machine's access to the store. It pauses once, before or after
// its call number at, from 0.
type pausing struct {
	Store
	at    int
	after bool // the call has taken effect
	pause time.Duration

	mu    sync.Mutex
	calls int
}

func (p *pausing) step(f func()) {
	p.mu.Lock()
	now := p.calls == p.at
	p.calls++
	p.mu.Unlock()
	if now && !p.after {
		time.Sleep(p.pause)
	}
	f()
	if now && p.after {
		time.Sleep(p.pause)
	}
}

func (p *pausing) Get(ctx context.Context, name string) (data []byte, err error) {
	p.step(func() { data, err = p.Store.Get(ctx, name) })
	return data, err
}

func (p *pausing) Put(ctx context.Context, name string, data []byte) (err error) {
	p.step(func() { err = p.Store.Put(ctx, name, data) })
	return err
}

func (p *pausing) Delete(ctx context.Context, name string) (err error) {
	p.step(func() { err = p.Store.Delete(ctx, name) })
	return err
}

// Two machines that start at once with an empty store use one account key
// soon after, whatever call of the store is slow, and for good.
func TestTwoMachinesThatStartAtOnceEndWithOneKey(t *testing.T) {
	const most = 4900 * time.Millisecond // of a call of the store
	steps := 8                           // of a registration: 3 reads, a write, 4 reads
	for _, roll := range []bool{false, true} {
		for _, pause := range []time.Duration{300 * time.Millisecond, most} {
			for at := range 2 * steps {
				for other := range 2 * steps {
					if !*allPauses && other != 0 && other != 2*at%steps && other != 6 && other != 7 {
						continue
					}
					name := fmt.Sprintf("%v at %d and %d, key change %v", pause, at, other, roll)
					t.Run(name, func(t *testing.T) {
						startTogether(t, [2]*pausing{{at: at / 2, after: at%2 == 1, pause: pause}, {at: other / 2, after: other%2 == 1, pause: pause}}, roll)
					})
				}
			}
		}
	}
}

func startTogether(t *testing.T, stores [2]*pausing, roll bool) {
	atSite(t, func(t *testing.T, s *site) {
		var machines []*machine
		var wg sync.WaitGroup
		for _, store := range stores {
			set := s.setup()
			store.Store = s.store
			set.store = store
			m := s.boot(set)
			machines = append(machines, m)
			wg.Go(func() {
				if err := m.use(t.Context()); err != nil {
					t.Errorf("the first use: %v", err)
				}
			})
		}
		if roll {
			wg.Go(func() { machines[0].ChangeKey(t.Context()) }) // it may fail
		}
		wg.Wait()
		registered := 0
		for round := range 3 {
			time.Sleep(confirmAfter)
			for _, m := range machines {
				if err := m.use(t.Context()); err != nil {
					t.Errorf("a later use: %v", err)
				}
			}
			if round == 0 {
				registered = len(s.ca.Accounts())
				continue
			}
			stored := s.keyIn(currentEntry)
			for i, m := range machines {
				if used := thumbprint(t, m.known.current().Key); used != stored {
					t.Errorf("round %d: machine %d uses the key %.8s, and the store has %.8s", round, i, used, stored)
				}
			}
		}
		// Without a lock the second one may have been registered, and a third one
		// by a key change that found neither.
		most := 2
		if roll {
			most = 3
		}
		if n := len(s.ca.Accounts()); n > most || n != registered {
			t.Errorf("%d accounts, and %d before", n, registered)
		}
		if n := len(s.ca.Orders()); n > 2*4+2 {
			t.Errorf("%d orders", n)
		}
	})
}

// A machine that reads the keys while another one ends a change of them finds the new
// one, wherever it is at that moment.
func TestKeyChangeThatEndsDuringAReadIsFound(t *testing.T) {
	atSite(t, func(t *testing.T, s *site) {
		reader := s.boot(s.setup())
		if err := reader.use(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.crashes(&crash{at: "put " + currentEntry}) // the CA has the new key, the store has it as the next one
		s.m.ChangeKey(t.Context())
		reads := 0
		s.store.hook(func(string) error {
			if reads++; reads == 2 { // of the two entries
				s.store.set(currentEntry, s.store.data(nextEntry))
				s.store.clear(nextEntry)
			}
			return nil
		}, nil)
		if err := reader.use(t.Context()); err != nil || reads < 2 {
			t.Errorf("after %d reads: %v", reads, err)
		}
		s.wantSettled()
	})
}
