package acmetest

import (
	"cmp"
	"context"
	"crypto/x509"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"
)

// hostFaultKind is what a fault of a name does, named after its method.
type hostFaultKind string

const (
	faultStuck        hostFaultKind = "StuckProcessing"
	faultInvalidOrder hostFaultKind = "InvalidOrder"
	faultValidation   hostFaultKind = "FailValidation"
	faultFinalize     hostFaultKind = "FailFinalize"
	faultEdit         hostFaultKind = "EditCertificate"
	faultChain        hostFaultKind = "EditChain"
	faultReuseOrder   hostFaultKind = "ReuseOrder"
	faultReusePending hostFaultKind = "ReusePendingAuthorization"
	faultPause        hostFaultKind = "PauseName"
	faultReject       hostFaultKind = "RejectName"
	faultStaysReady   hostFaultKind = "StaysReady"
	faultAcceptTwice  hostFaultKind = "RefuseSecondAccept"
	faultSlow         hostFaultKind = "SlowValidation"
	faultSecondary    hostFaultKind = "FailSecondaryValidation"
)

// decides reports whether only the oldest fault of the kind applies. Other
// kinds all apply.
func (k hostFaultKind) decides() bool {
	switch k {
	case faultStuck, faultEdit, faultChain, faultReject, faultSlow:
		return false
	}
	return true
}

// hostFault is a fault of a name.
type hostFault struct {
	*Fault
	name  string // of the method; empty means that of the kind
	kind  hostFaultKind
	host  string // a name or wildcard, as in Resolve
	times int    // how often it acts; 0 means unlimited

	challengeType string // "" means all
	problem       Problem
	duration      time.Duration // of faultSlow and faultStaysReady
	edit          func(leaf *x509.Certificate)
	editChain     func(chain [][]byte) [][]byte
}

// FaultOption restricts a fault for a name. See Times.
type FaultOption func(*hostFault)

// Times limits a fault for a name to n uses: n orders, validations or
// certificates. Zero means unlimited. It panics if n is negative.
func Times(n int) FaultOption {
	if n < 0 {
		panic(fmt.Sprintf("acmetest: Times(%d): a fault cannot act so often", n))
	}
	return func(f *hostFault) { f.times = n }
}

// hostFaults holds the active faults for names, oldest first.
type hostFaults struct {
	mu   sync.Mutex
	list []*hostFault
}

// addHostFault begins a fault of a name.
func (s *Server) addHostFault(f *hostFault, options []FaultOption) *Fault {
	s.mustBeUsable()
	f.host = mustBePattern(f.host)
	f.name = cmp.Or(f.name, string(f.kind))
	for _, option := range options {
		option(f)
	}
	fs := &s.hosts
	f.Fault = s.begun.add(f.what(), func() {
		fs.mu.Lock()
		defer fs.mu.Unlock()
		fs.list = slices.DeleteFunc(fs.list, func(g *hostFault) bool { return g == f })
	})
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.list = append(fs.list, f)
	return f.Fault
}

// what describes the call that began the fault.
func (f *hostFault) what() string {
	args := strconv.Quote(f.host)
	if f.challengeType != "" {
		args += ", " + f.challengeType
	}
	if f.times != 0 {
		args += ", times " + strconv.Itoa(f.times)
	}
	return f.name + "(" + args + ")"
}

// take returns the faults of a kind that now apply to any of the names, oldest
// first, and counts their use.
func (fs *hostFaults) take(kind hostFaultKind, hosts ...string) []*hostFault {
	return fs.takeType(kind, "", hosts...)
}

// takeType is take for one challenge type.
func (fs *hostFaults) takeType(kind hostFaultKind, challengeType string, hosts ...string) []*hostFault {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.list = slices.DeleteFunc(fs.list, func(f *hostFault) bool { return f.times > 0 && f.Acted() == f.times })
	var taken []*hostFault
	for _, f := range fs.list {
		if f.kind != kind || f.challengeType != "" && f.challengeType != challengeType ||
			!slices.ContainsFunc(hosts, func(host string) bool { return matchName(f.host, host) }) {
			continue
		}
		f.acted.Add(1) // under the lock, so never more than times
		taken = append(taken, f)
		if kind.decides() {
			break
		}
	}
	return taken
}

// StuckProcessing keeps finalized orders for a name (or a wildcard, as in
// Resolve) in state "processing", without a certificate, until it is lifted.
func (s *Server) StuckProcessing(host string, options ...FaultOption) *Fault {
	return s.addHostFault(&hostFault{kind: faultStuck, host: host}, options)
}

// InvalidOrder makes newOrder return an order for this name that is already
// invalid, as are its authorizations.
func (s *Server) InvalidOrder(host string, options ...FaultOption) *Fault {
	return s.addHostFault(&hostFault{kind: faultInvalidOrder, host: host}, options)
}

// FailValidation makes validations of a name fail with p, without contacting
// the host. An empty challengeType means every type; a problem without a type
// is "unauthorized".
func (s *Server) FailValidation(host, challengeType string, p Problem, options ...FaultOption) *Fault {
	if challengeType != "" {
		mustBeChallengeType(challengeType)
	}
	if p.Type == "" {
		p.Type = "unauthorized"
	}
	if p.Detail == "" {
		p.Detail = "validation fails because the test wants it"
	}
	return s.addHostFault(&hostFault{kind: faultValidation, host: host, challengeType: challengeType, problem: p}, options)
}

// FailFinalize makes orders for a name invalid with p when they are finalized,
// instead of issuing the certificate: before the reply, or later if they stay
// in state "processing". A problem without a type is "serverInternal".
//
// To refuse the request and leave the order unchanged, use Status with the
// endpoint Finalize.
func (s *Server) FailFinalize(host string, p Problem, options ...FaultOption) *Fault {
	if p.Detail == "" {
		p.Detail = "nothing is issued because the test wants it"
	}
	p.Subproblems = slices.Clone(p.Subproblems)
	return s.addHostFault(&hostFault{kind: faultFinalize, host: host, problem: p.filled()}, options)
}

// finalizeProblem returns why an order for these names must become invalid, or
// nil.
func (s *Server) finalizeProblem(hosts []string) *Problem {
	for _, f := range s.hosts.take(faultFinalize, hosts...) {
		problem := f.problem
		return &problem
	}
	return nil
}

// awaitUnstuck waits until no name is stuck in processing, or returns the
// context's error. stuck holds the faults already taken.
func (s *Server) awaitUnstuck(ctx context.Context, hosts []string, stuck []*hostFault) error {
	for {
		for _, f := range stuck {
			select {
			case <-f.lifted:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if stuck = s.hosts.take(faultStuck, hosts...); len(stuck) == 0 {
			return ctx.Err()
		}
	}
}
