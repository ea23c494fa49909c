package fleet

import (
	"fmt"
	"testing"
)

// served are the hosts that the fleet serves all the time.
var served = []string{"one.served.test", "two.served.test", "three.served.test"}

// A fault in any stage of an issuance neither loses nor doubles it, and no host
// that is already served suffers.
func TestFaults(t *testing.T) {
	measured := newResults()
	t.Cleanup(func() { // after all of them
		if *all && *update && !t.Failed() {
			measured.write(t)
		}
	})
	try := func(name string, kind storeKind, fault fault, stages []stage) {
		t.Run(name, func(t *testing.T) {
			if !*all && !kind.short(fault, stages) {
				t.Skip("runs with -fleet.all")
			}
			t.Parallel()
			measured.add(kind, fault, tryFault(t, kind, fault, stages))
		})
	}
	for _, fault := range faults() {
		for _, kind := range kinds() {
			if kind.can(fault) {
				try(string(kind)+"/"+fault.name, kind, fault, stages())
			}
		}
		// All hosts need the account, so nothing is served before.
		try("account/"+fault.name, fullKind, fault, []stage{atAccount})
	}
}

// tryFault makes a fault while a machine is held up in each of the stages.
func tryFault(t *testing.T, kind storeKind, fault fault, stages []stage) []*issuance {
	t.Helper()
	r := &trial{fault: fault}
	var hosts []string
	if stages[0] != atAccount {
		hosts = served
	}
	r.fleet = startFleet(t, kind, machineConfig{Lease: lease, Hosts: hosts})
	ctx := limited(t)
	for _, m := range r.machines {
		for _, host := range hosts {
			if err := r.served(ctx, m, host, visitAgain, func(string) bool { return true }); err != nil {
				t.Fatalf("%s does not serve %s: %v\n%s", m.name, host, err, r.describe(t, host))
			}
		}
	}
	var visitors *crowd
	if len(hosts) > 0 {
		visitors = startCrowd(t, r.tls, r.roots, hosts)
	}
	for n, s := range stages {
		r.issuances = append(r.issuances, &issuance{stage: s, host: fmt.Sprintf("stage%d%s", n, newHosts)})
	}
	r.run(t)
	if visitors != nil {
		visits, failed := visitors.end()
		if len(failed) > 0 {
			t.Errorf("%d handshakes of served hosts failed, %d did not; the first is %s", len(failed), visits, failed[0])
		}
		t.Logf("%d handshakes of served hosts", visits)
	}
	for _, i := range r.issuances {
		t.Logf("%-16s %.1f s", i.stage, i.took.Seconds())
	}
	return r.issuances
}
