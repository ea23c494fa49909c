package fleet

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr/cache"
)

// fleet is a CA, a store, machines and a load balancer.
type fleet struct {
	ca       *theCA
	store    *store
	entries  cache.Cache // of the store, without a machine
	machines []*theMachine
	tls      *balancer
	http     *balancer
	roots    *x509.CertPool
}

// names of the machines
var names = []string{"alpha", "beta", "gamma"}

// startFleet starts a fleet on a store. The machines have these settings, apart
// from what they need for that.
func startFleet(t *testing.T, kind storeKind, settings machineConfig) *fleet {
	t.Helper()
	f := &fleet{
		store: startStore(t, kind, len(names)),
		tls:   startBalancer(t),
		http:  startBalancer(t),
		roots: x509.NewCertPool(),
	}
	var err error
	if f.entries, err = f.store.direct.open(); err != nil {
		t.Fatal(err)
	}
	f.ca = startCA(t, f.tls.addr(), f.http.addr())
	f.roots.AppendCertsFromPEM(f.ca.root.PEM)
	for i, name := range names {
		c := settings
		c.Name, c.Store, c.CA = name, f.store.of[i], f.ca.root
		m := startMachine(t, c)
		f.machines = append(f.machines, m)
		f.tls.add(m.tls())
		f.http.add(m.http())
	}
	return f
}

// mark takes a machine out of the load balancer, or back into it.
func (f *fleet) mark(m *theMachine, down bool) {
	f.tls.mark(m.tls(), down)
	f.http.mark(m.http(), down)
}

// stored returns the serial number of the certificate for a host in the store,
// or an empty string if there is none, or the store does not answer.
func (f *fleet) stored(ctx context.Context, host string) string {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	data, err := f.entries.Get(ctx, host)
	if err != nil {
		return ""
	}
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		leaf, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return err.Error()
		}
		return serialOf(leaf)
	}
	return "no certificate in the entry"
}

// served visits a host on a machine until it gets a certificate that want accepts.
func (f *fleet) served(ctx context.Context, m *theMachine, host string, again time.Duration, want func(serial string) bool) error {
	return poll(ctx, again, func() error {
		serial, _, err := visit(ctx, m.tls(), host, f.roots)
		if err == nil && !want(serial) {
			err = fmt.Errorf("it serves %s", serial)
		}
		return err
	})
}

// describe returns what is known about a host, for a failed test.
func (f *fleet) describe(t *testing.T, host string) string {
	t.Helper()
	var b strings.Builder
	for _, m := range f.machines {
		select {
		case <-m.Done():
			fmt.Fprintf(&b, "%s has ended\n", m.name)
		default:
			fmt.Fprintln(&b, m.about(host))
		}
	}
	log := f.ca.log(t)
	for _, r := range log.Requests {
		if r.Host == host {
			fmt.Fprintf(&b, "CA: %s %s %s %d %s %s\n", r.Time.Format("15:04:05.000"), r.UserAgent, r.Endpoint, r.Status, r.Fault, r.Detail)
		}
	}
	for _, o := range log.Orders {
		if o.Host == host {
			fmt.Fprintf(&b, "CA: an order is %s, certificate %q; stored is %q\n", o.Status, o.Serial, f.stored(t.Context(), host))
		}
	}
	return b.String()
}

const (
	// pollEvery is the time between two looks at something that a test waits for.
	pollEvery = 50 * time.Millisecond

	// visitAgain is the time between two visits of a host that is not served yet.
	visitAgain = 300 * time.Millisecond
)

// poll calls check until it succeeds or ctx ends.
func poll(ctx context.Context, every time.Duration, check func() error) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		}
	}
}

// limited returns a context for what has to happen within patience.
func limited(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// holder is the machine that is held up in the middle of issuances.
func (f *fleet) holder() *theMachine { return f.machines[0] }
