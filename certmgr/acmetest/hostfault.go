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
	faultEdit
)

// hostFault is one thing that goes wrong with what the CA does for a name.
type hostFault struct {
	kind   hostFaultKind
	host   string // a name or wildcard, as in Resolve
	lifted chan struct{}

	challengeType string // "" is every one
	problem       Problem
	edit          func(leaf *x509.Certificate)
}

// hostFaults are the faults for names that are in force, oldest first.
type hostFaults struct {
	mu   sync.Mutex
	list []*hostFault
}

func (fs *hostFaults) add(f *hostFault) (lift func()) {
	f.lifted = make(chan struct{})
	f.host = strings.ToLower(f.host)
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

// find returns the faults of a kind for any of the names.
func (fs *hostFaults) find(kind hostFaultKind, hosts ...string) []*hostFault {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	var found []*hostFault
	for _, f := range fs.list {
		if f.kind == kind && slices.ContainsFunc(hosts, func(host string) bool { return matchName(f.host, host) }) {
			found = append(found, f)
		}
	}
	return found
}

// StuckProcessing makes finalized orders for a name (or a wildcard, as in Resolve) stay in state "processing", without
// a certificate, until it is lifted.
func (s *Server) StuckProcessing(host string) (lift func()) {
	return s.hosts.add(&hostFault{kind: faultStuck, host: host})
}

// InvalidOrder makes newOrder answer with an order for this name that is invalid already, as are its authorizations,
// so that nothing is left to do with it.
func (s *Server) InvalidOrder(host string) (lift func()) {
	return s.hosts.add(&hostFault{kind: faultInvalidOrder, host: host})
}

// FailValidation makes validations of a name fail with p, without asking anyone. An empty challengeType means every
// type; a problem without a type is "unauthorized".
func (s *Server) FailValidation(host, challengeType string, p Problem) (lift func()) {
	if p.Type == "" {
		p.Type = "unauthorized"
	}
	if p.Detail == "" {
		p.Detail = "validation fails because the test wants it"
	}
	return s.hosts.add(&hostFault{kind: faultValidation, host: host, challengeType: challengeType, problem: p})
}

// EditCertificate calls edit with the template of each certificate for a name just before it is signed: change its
// names, its dates, or its PublicKey to sign over a foreign key. Edit may run in several goroutines.
func (s *Server) EditCertificate(host string, edit func(leaf *x509.Certificate)) (lift func()) {
	return s.hosts.add(&hostFault{kind: faultEdit, host: host, edit: edit})
}

// WrongKey makes certificates for a name certify a key that nobody has.
func (s *Server) WrongKey(host string) (lift func()) {
	return s.EditCertificate(host, func(leaf *x509.Certificate) {
		leaf.PublicKey = newKey().Public()
		leaf.PublicKeyAlgorithm = x509.ECDSA
	})
}

// awaitUnstuck returns when no name is stuck in processing any more, or with the context's error.
func (s *Server) awaitUnstuck(ctx context.Context, hosts []string) error {
	for {
		stuck := s.hosts.find(faultStuck, hosts...)
		if len(stuck) == 0 {
			return ctx.Err()
		}
		select {
		case <-stuck[0].lifted:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
