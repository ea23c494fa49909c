package acmetest

import "time"

// RefuseSecondAccept refuses to accept a challenge for a name again, with the
// type "conflict" and status 409. Let's Encrypt began to do so in 2026. Without
// this fault the challenge is returned as it is. Reading it is always allowed.
func (s *Server) RefuseSecondAccept(host string, options ...FaultOption) *Fault {
	return s.addHostFault(&hostFault{kind: faultAcceptTwice, host: host}, options)
}

// SlowValidation makes validations of a name begin after d, or when the fault is
// lifted. Until then the challenge is "processing" and its authorization
// "pending", as with a CA under load. The time-out of the validation begins
// afterwards.
func (s *Server) SlowValidation(host string, d time.Duration, options ...FaultOption) *Fault {
	return s.addHostFault(&hostFault{kind: faultSlow, host: host, duration: d}, options)
}

// FailSecondaryValidation makes validations of a name that succeed fail with p
// all the same, because another perspective of the CA, elsewhere on the network,
// disagrees (Baseline Requirements, 3.2.2.9). Its text begins with "During
// secondary validation: ", as at Let's Encrypt. An empty challengeType means
// every type. Without a type and a text, p is about a connection that times out.
func (s *Server) FailSecondaryValidation(host, challengeType string, p Problem, options ...FaultOption) *Fault {
	if challengeType != "" {
		mustBeChallengeType(challengeType)
	}
	if p.Type == "" {
		p.Type = "connection"
	}
	if p.Detail == "" {
		p.Detail = "192.0.2.1: Timeout during connect (likely firewall problem)"
	}
	p.Detail = "During secondary validation: " + p.Detail
	return s.addHostFault(&hostFault{kind: faultSecondary, host: host, challengeType: challengeType, problem: p}, options)
}

// secondaryProblem returns why another perspective cannot validate a challenge,
// or nil.
func (s *Server) secondaryProblem(typ, host string) *Problem {
	for _, f := range s.hosts.takeType(faultSecondary, typ, host) {
		problem := f.problem
		return &problem
	}
	return nil
}

// slowDown waits as SlowValidation requires, or until the server is closed.
func (s *Server) slowDown(faults []*hostFault) {
	for _, f := range faults {
		timer := time.NewTimer(f.duration)
		f.holdUp(s.ctx, timer.C)
		timer.Stop()
	}
}
