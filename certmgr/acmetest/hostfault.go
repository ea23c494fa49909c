package acmetest

import (
	"context"
	"crypto/x509"
	"slices"
	"strings"
	"sync"
)

type hostFaultKind int

const (
	faultStuck hostFaultKind = iota
	faultInvalidOrder
	faultValidation
	faultFinalize
	faultEdit
	faultChain
)

// decides reports whether the oldest fault of the kind acts alone. Those of the other kinds add up.
func (k hostFaultKind) decides() bool {
	return k == faultInvalidOrder || k == faultValidation || k == faultFinalize
}

// hostFault is one thing that goes wrong with what the CA does for a name.
type hostFault struct {
	kind   hostFaultKind
	host   string // a name or wildcard, as in Resolve
	lifted chan struct{}
	times  int // how often it acts; 0 is without end
	hits   int // guarded by hostFaults.mu

	challengeType string // "" is every one
	problem       Problem
	edit          func(leaf *x509.Certificate)
	editChain     func(chain [][]byte) [][]byte
}

// FaultOption restricts a fault for a name. See Times.
type FaultOption func(*hostFault)

// Times makes a fault for a name end by itself after it acted n times: on n orders, validations or certificates. Zero
// is without end.
func Times(n int) FaultOption { return func(f *hostFault) { f.times = n } }

// hostFaults are the faults for names that are in force, oldest first.
type hostFaults struct {
	mu   sync.Mutex
	list []*hostFault
}

func (fs *hostFaults) add(f *hostFault, options []FaultOption) (lift func()) {
	f.lifted = make(chan struct{})
	f.host = strings.ToLower(f.host)
	for _, option := range options {
		option(f)
	}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.list = append(fs.list, f)
	return sync.OnceFunc(func() {
		fs.mu.Lock()
		fs.list = slices.DeleteFunc(fs.list, func(g *hostFault) bool { return g == f })
		fs.mu.Unlock()
		close(f.lifted)
	})
}

// take returns the faults of a kind that act on any of the names now, oldest first, and counts it.
func (fs *hostFaults) take(kind hostFaultKind, hosts ...string) []*hostFault {
	return fs.takeType(kind, "", hosts...)
}

// takeType is take for a type of challenge.
func (fs *hostFaults) takeType(kind hostFaultKind, challengeType string, hosts ...string) []*hostFault {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.list = slices.DeleteFunc(fs.list, func(f *hostFault) bool { return f.times > 0 && f.hits == f.times })
	var taken []*hostFault
	for _, f := range fs.list {
		if f.kind != kind || f.challengeType != "" && f.challengeType != challengeType ||
			!slices.ContainsFunc(hosts, func(host string) bool { return matchName(f.host, host) }) {
			continue
		}
		f.hits++
		taken = append(taken, f)
		if kind.decides() {
			break
		}
	}
	return taken
}

// StuckProcessing makes finalized orders for a name (or a wildcard, as in Resolve) stay in state "processing", without
// a certificate, until it is lifted.
func (s *Server) StuckProcessing(host string, options ...FaultOption) (lift func()) {
	return s.hosts.add(&hostFault{kind: faultStuck, host: host}, options)
}

// InvalidOrder makes newOrder answer with an order for this name that is invalid already, as are its authorizations,
// so that nothing is left to do with it.
func (s *Server) InvalidOrder(host string, options ...FaultOption) (lift func()) {
	return s.hosts.add(&hostFault{kind: faultInvalidOrder, host: host}, options)
}

// FailValidation makes validations of a name fail with p, without asking anyone. An empty challengeType means every
// type; a problem without a type is "unauthorized".
func (s *Server) FailValidation(host, challengeType string, p Problem, options ...FaultOption) (lift func()) {
	if p.Type == "" {
		p.Type = "unauthorized"
	}
	if p.Detail == "" {
		p.Detail = "validation fails because the test wants it"
	}
	return s.hosts.add(&hostFault{kind: faultValidation, host: host, challengeType: challengeType, problem: p}, options)
}

// FailFinalize makes orders for a name turn invalid with p once they are finalized, where a certificate would be issued
// otherwise: before the reply to the request, or later, if they are left in state "processing" for a while. A problem
// without a type is "serverInternal".
//
// To have the request refused and the order left as it is, use Status with the endpoint Finalize.
func (s *Server) FailFinalize(host string, p Problem, options ...FaultOption) (lift func()) {
	if p.Detail == "" {
		p.Detail = "nothing is issued because the test wants it"
	}
	p.Subproblems = slices.Clone(p.Subproblems)
	return s.hosts.add(&hostFault{kind: faultFinalize, host: host, problem: p.filled()}, options)
}

// finalizeProblem returns why the order of these names shall turn invalid, or nil.
func (s *Server) finalizeProblem(hosts []string) *Problem {
	for _, f := range s.hosts.take(faultFinalize, hosts...) {
		problem := f.problem
		return &problem
	}
	return nil
}

// awaitUnstuck returns when no name is stuck in processing any more, or with the context's error. The faults of stuck
// were taken before.
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
