package acmetest

import (
	"crypto/x509"
	"net/http"
	"time"
)

// finalize accepts the CSR of an order and issues its certificate (RFC 8555,
// section 7.4).
func (s *Server) finalize(x *exchange) (*reply, *Problem) {
	var payload struct {
		CSR string `json:"csr"`
	}
	if problem := x.decode(&payload); problem != nil {
		return nil, problem
	}
	o, problem := s.finalizable(x)
	if problem != nil {
		return nil, problem
	}
	request, problem := s.checkCSR(payload.CSR, o.hosts)
	if problem != nil {
		return nil, problem
	}
	if problem := s.startProcessing(o); problem != nil {
		return nil, problem
	}
	s.keepReady(o)
	stuck := s.hosts.take(faultStuck, o.hosts...)
	if s.Processing == 0 && len(stuck) == 0 {
		s.complete(o, request)
	} else if !s.tasks.Go(func() { s.completeLater(o, request, stuck) }) {
		panic(http.ErrAbortHandler) // closed
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	rep := s.orderReply(o, http.StatusOK)
	if !s.FinalizeLocation {
		rep.location = ""
	}
	return rep, nil
}

// finalizable returns the order if it is ready.
func (s *Server) finalizable(x *exchange) (*order, *Problem) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o, problem := s.ownOrder(x)
	if problem != nil {
		return nil, problem
	}
	return o, o.notReady(s.now())
}

// notReady returns a problem if the order is not ready. Server.mu is held.
func (o *order) notReady(now time.Time) *Problem {
	if status := o.current(now); status != ready {
		return problemf("orderNotReady", "the order is %s and not ready", status)
	}
	return nil
}

// startProcessing moves the order from ready to processing; of concurrent
// requests only one succeeds.
func (s *Server) startProcessing(o *order) *Problem {
	s.mu.Lock()
	defer s.mu.Unlock()
	if problem := o.notReady(s.now()); problem != nil {
		return problem
	}
	o.status = processing
	return nil
}

// completeLater leaves the order in state processing for as long as the test
// wants. stuck holds the faults already taken.
func (s *Server) completeLater(o *order, request *x509.CertificateRequest, stuck []*hostFault) {
	timer := time.NewTimer(s.Processing)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.ctx.Done():
		return
	}
	if s.awaitUnstuck(s.ctx, o.hosts, stuck) == nil {
		s.complete(o, request)
	}
}

// complete issues the certificate and makes the order valid, or invalid if that
// fails.
func (s *Server) complete(o *order, request *x509.CertificateRequest) {
	cert, problem := s.issue(o, request)
	defer s.changes.notify()
	s.mu.Lock()
	defer s.mu.Unlock()
	if o.status != processing {
		return // the account was deactivated meanwhile
	}
	if problem != nil {
		o.status, o.problem = invalid, problem
		return
	}
	s.state.addCertificate(cert)
	o.status, o.certificate = valid, cert
	s.countIssued(o)
}
