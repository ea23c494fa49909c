package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/nostall/nostall/certmgr"
)

// issue: there is no certificate yet, so the first handshake begins an issuance
// and waits for it.
func (d *demo) issue() error {
	v := d.visit(goodHost)
	if err := v.served(); err != nil {
		return fmt.Errorf("step 1: the first visitor: %w", err)
	}
	if v.requests == 0 || len(d.ca.IssuedFor(goodHost)) != 1 {
		return errors.New("step 1: no certificate was issued")
	}
	show("1  the first visitor has a certificate issued", v)
	leaf := v.state.PeerCertificates[0]
	explain("", fmt.Sprintf("for %v, by %s, until %s", leaf.DNSNames, leaf.Issuer.CommonName, leaf.NotAfter.Format(time.DateOnly)))
	return nil
}

// serve: later handshakes are served from memory.
func (d *demo) serve() error {
	v := d.visit(goodHost)
	if err := v.served(); err != nil {
		return fmt.Errorf("step 2: the second visitor: %w", err)
	}
	if v.requests != 0 {
		return fmt.Errorf("step 2: the second visitor caused %d requests to the CA", v.requests)
	}
	show("2  the next visitor is served from memory", v)
	return nil
}

// restart: a new Manager, as in a new process, finds the certificate in the
// cache.
func (d *demo) restart() error {
	if err := d.stopServer(); err != nil {
		return fmt.Errorf("step 3: stop the server: %w", err)
	}
	if err := d.startServer(); err != nil {
		return fmt.Errorf("step 3: start it again: %w", err)
	}
	v := d.visit(goodHost)
	if err := v.served(); err != nil {
		return fmt.Errorf("step 3: after the restart: %w", err)
	}
	if v.requests != 0 {
		return fmt.Errorf("step 3: the restart caused %d requests to the CA", v.requests)
	}
	show("3  after a restart it is served from the cache", v)
	return nil
}

// deny: a host that is not on the allowlist costs nothing.
func (d *demo) deny() error {
	v := d.visit(deniedHost)
	if err := v.refused(certmgr.ErrHostNotAllowed); err != nil {
		return fmt.Errorf("step 4: %s: %w", deniedHost, err)
	}
	if v.requests != 0 {
		return fmt.Errorf("step 4: the denied host caused %d requests to the CA", v.requests)
	}
	show("4  a host that is not on the allowlist is refused", v)
	explain("server:", v.cause.Error())
	explain("visitor:", v.err.Error())
	return nil
}

// fail: the CA cannot validate a host on the allowlist. The first client's
// handshake fails with the reason, and so does the next one, at once and
// without a request to the CA.
func (d *demo) fail() error {
	first := d.visit(movedHost)
	var issuance *certmgr.IssuanceError
	if err := first.refused(nil); err != nil || !errors.As(first.cause, &issuance) {
		return fmt.Errorf("step 5: %s: want an *IssuanceError: %w", movedHost, errors.Join(err, first.cause))
	}
	show("5  validation fails: the first visitor learns why", first)
	explain("server:", first.cause.Error())

	next := d.visit(movedHost)
	if err := next.refused(certmgr.ErrBackoff); err != nil {
		return fmt.Errorf("step 5: the next visitor: %w", err)
	}
	if next.requests != 0 {
		return fmt.Errorf("step 5: the next visitor caused %d requests to the CA", next.requests)
	}
	if !errors.As(next.cause, &issuance) {
		return fmt.Errorf("step 5: the next visitor is not told why: %w", next.cause)
	}
	show("   the next visitor learns the same, at once", next)
	explain("server:", next.cause.Error())
	explain("", fmt.Sprintf("So the next attempt is due in %v.", time.Until(issuance.RetryAt).Round(time.Second)))
	return nil
}

// served returns an error unless the visit was answered.
func (v visit) served() error {
	if v.err != nil || v.cause != nil {
		return errors.Join(v.err, v.cause)
	}
	if want := "hello from " + goodHost; v.body != want {
		return fmt.Errorf("got %q instead of %q", v.body, want)
	}
	return nil
}

// refused returns an error unless the visit ended with an alert, for the given
// reason (nil means any).
func (v visit) refused(reason error) error {
	switch {
	case v.err == nil:
		return fmt.Errorf("was served: %q", v.body)
	case v.cause == nil:
		return fmt.Errorf("got a certificate: %w", v.err)
	case reason != nil && !errors.Is(v.cause, reason):
		return fmt.Errorf("want %q, have: %w", reason, v.cause)
	}
	return nil
}
