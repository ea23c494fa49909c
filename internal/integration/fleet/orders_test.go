package fleet

import (
	"context"
	"fmt"
	"sync"
	"testing"
)

// Hosts that are new for the whole fleet, and are visited on all machines at
// once, get one order each, from one account.
func TestOneOrderForEachHost(t *testing.T) {
	for _, kind := range kinds() {
		t.Run(string(kind), func(t *testing.T) {
			if !*all && kind != fullKind {
				t.Skip("runs with -fleet.all")
			}
			visitNewHosts(t, kind)
		})
	}
}

// visitNewHosts visits hosts on all machines until they are served.
func visitNewHosts(t *testing.T, kind storeKind) {
	t.Helper()
	const (
		hosts = 200
		most  = 20 // at a time: a computer that cannot keep up loses leases and validations
	)
	f := startFleet(t, kind, machineConfig{})
	places := make(chan struct{}, most)
	var visitors sync.WaitGroup
	for i := range hosts {
		places <- struct{}{}
		visitors.Go(func() {
			defer func() { <-places }()
			f.visitEverywhere(limited(t), t, fmt.Sprintf("h%d%s", i, newHosts))
		})
	}
	visitors.Wait()
	log := f.ca.log(t)
	if log.Accounts != 1 || len(log.Orders) != hosts {
		t.Errorf("%d orders from %d accounts, want %d from 1\n%s", len(log.Orders), log.Accounts, hosts, log.Text)
	}
	orders := make(map[string]int)
	for _, o := range log.Orders {
		orders[o.Host]++
	}
	shown := 0
	for host, n := range orders {
		if n > 1 && shown < 3 {
			shown++
			t.Errorf("%d orders for %s\n%s", n, host, f.describe(t, host))
		}
	}
}

// visitEverywhere visits a host on all machines at once, until all serve it.
func (f *fleet) visitEverywhere(ctx context.Context, t *testing.T, host string) {
	var visitors sync.WaitGroup
	for _, m := range f.machines {
		visitors.Go(func() {
			if err := f.served(ctx, m, host, visitAgain, func(string) bool { return true }); err != nil {
				t.Errorf("%s does not serve %s: %v", m.name, host, err)
			}
		})
	}
	visitors.Wait()
}
