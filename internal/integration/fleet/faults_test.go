package fleet

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

// issuance is one that the first machine has begun and cannot end.
type issuance struct {
	stage stage
	host  string
	took  time.Duration // what the fault measures
}

// slack is how much later than the end of the lease another machine may take
// over. The promise is 5 seconds, on machines that have nothing else to do; what
// was measured is in docs/fleets.md.
const slack = 30 * time.Second

// trial is a fault in the middle of issuances.
type trial struct {
	*fleet
	fault     fault
	issuances []*issuance
	began     time.Time // the fault
	mended    time.Time
}

// run has the first machine begin an issuance for each stage, makes the fault,
// and checks what became of them.
func (r *trial) run(t *testing.T) {
	t.Helper()
	r.hold(t)
	stop := r.newcomers(t)
	defer stop()
	r.began = time.Now()
	r.fault.begin(t, r.fleet)
	if r.fault.takenOver {
		r.awaitStored(t, r.began)
		r.takeovers(t)
		if r.fault.survived {
			r.renew(t)
		}
		r.release(t)
		r.mended = time.Now()
		r.fault.end(t, r.fleet)
	} else {
		r.release(t)
		r.awaitTime(t, r.began.Add(lasts))
		r.fault.end(t, r.fleet)
		r.mended = time.Now()
	}
	if r.fault.survived {
		r.holder().call(t, "ReleaseStore", struct{}{}, nil)
	}
	if !r.fault.takenOver {
		r.awaitStored(t, r.mended)
	}
	r.check(t)
}

// hold visits the first machine, and waits until it is held up everywhere.
func (r *trial) hold(t *testing.T) {
	t.Helper()
	for _, i := range r.issuances {
		if i.stage == atStore {
			r.holder().call(t, "HoldStore", i.host, nil)
		} else {
			r.ca.call(t, "Hold", Hold{i.stage, i.host}, nil)
		}
		go visit(t.Context(), r.holder().tls(), i.host, r.roots) // which fails
	}
	for _, i := range r.issuances {
		if i.stage == atStore {
			r.holder().call(t, "AwaitStore", i.host, nil)
		} else {
			r.ca.call(t, "Await", Hold{i.stage, i.host}, nil)
		}
	}
}

// release lets the requests go on that the CA has held up.
func (r *trial) release(t *testing.T) {
	t.Helper()
	r.ca.call(t, "Release", struct{}{}, nil)
}

// newcomers visits the hosts through the load balancer until it is stopped.
func (r *trial) newcomers(t *testing.T) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	for range 2 {
		done.Go(func() {
			tick := time.NewTicker(visitEvery)
			defer tick.Stop()
			for ctx.Err() == nil {
				host := r.issuances[rand.IntN(len(r.issuances))].host
				visit(ctx, r.tls.addr(), host, r.roots) // fails while there is none
				select {
				case <-tick.C:
				case <-ctx.Done():
				}
			}
		})
	}
	return func() { cancel(); done.Wait() }
}

// awaitTime waits for a time.
func (r *trial) awaitTime(t *testing.T, at time.Time) {
	t.Helper()
	select {
	case <-time.After(time.Until(at)):
	case <-t.Context().Done():
	}
}

// awaitStored waits until the store has all certificates, and measures how long
// that takes from a time on.
func (r *trial) awaitStored(t *testing.T, from time.Time) {
	t.Helper()
	ctx := limited(t)
	for _, i := range r.issuances {
		err := poll(ctx, pollEvery, func() error {
			if r.stored(ctx, i.host) == "" {
				return fmt.Errorf("the store has no certificate")
			}
			return nil
		})
		if err != nil {
			t.Fatalf("%s at %q: %v\n%s", r.fault.name, i.stage, err, r.describe(t, i.host))
		}
		i.took = max(time.Since(from), 0)
	}
}

// takeovers measures when another machine went on.
func (r *trial) takeovers(t *testing.T) {
	t.Helper()
	log := r.ca.log(t)
	for _, i := range r.issuances {
		first := log.firstOf(i.host, r.holder().name, r.began)
		i.took = first.Sub(r.began)
		if first.IsZero() || i.took > lease+slack {
			t.Errorf("%s at %q: another machine went on after %v\n%s", r.fault.name, i.stage, i.took, r.describe(t, i.host))
		}
	}
}

// renew has another machine renew all certificates, so that the store has newer
// ones than those that the first machine may be about to store. It must know the
// present ones: otherwise it finds them in the store, and that is newer enough. A
// renewal fails if the CA's validations reach the machine that is cut off from the
// store, which cannot answer them.
func (r *trial) renew(t *testing.T) {
	t.Helper()
	ctx := limited(t)
	other := r.machines[1]
	var done sync.WaitGroup
	for _, i := range r.issuances {
		done.Go(func() {
			err := r.served(ctx, other, i.host, visitAgain, func(string) bool { return true })
			if err == nil {
				err = poll(ctx, visitAgain, func() error { return other.try("Renew", i.host, nil) })
			}
			if err != nil {
				t.Errorf("renew %s: %v\n%s", i.host, err, r.describe(t, i.host))
			}
		})
	}
	done.Wait()
}

// renewed reports whether all certificates were renewed.
func (r *trial) renewed() bool { return r.fault.takenOver && r.fault.survived }

// check checks what became of each issuance.
func (r *trial) check(t *testing.T) {
	t.Helper()
	for _, i := range r.issuances {
		ctx := limited(t)
		var want string // the newest certificate
		fail := func(format string, args ...any) {
			t.Helper()
			t.Errorf("%s at %q: %s\n%s", r.fault.name, i.stage, fmt.Sprintf(format, args...), r.describe(t, i.host))
		}
		for _, m := range r.machines {
			if m == r.holder() && !r.fault.survived {
				continue
			}
			err := r.served(ctx, m, i.host, visitAgain, func(serial string) bool {
				want = r.ca.log(t).Newest[i.host]
				return serial == want || r.renewed()
			})
			if err != nil {
				fail("%s does not serve the newest certificate %s: %v", m.name, want, err)
			}
		}
		log := r.ca.log(t)
		if stored := r.stored(t.Context(), i.host); stored != log.Newest[i.host] {
			fail("%s is stored, and %s was issued last", stored, log.Newest[i.host])
		}
		allowed := 1
		if r.renewed() {
			allowed = 2
			if late := log.from(i.host, r.holder().name, r.mended); len(late) > 0 {
				fail("the machine that lost its lease went on with %+v", late)
			}
		}
		if orders := log.finalized(i.host); len(orders) != allowed {
			fail("%d orders reached finalize, want %d: %+v", len(orders), allowed, orders)
		}
		if log.Accounts != 1 {
			fail("%d accounts were registered", log.Accounts)
		}
	}
}
