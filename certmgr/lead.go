package certmgr

import "context"

// errHave cancels an issuance before it begins: there is a certificate already.
type errHave struct{ cert *certificate }

func (errHave) Error() string { return "certmgr: certificate in memory" }

// visitorRequest returns the request for a host that a client asks for.
func visitorRequest(sub subject, g grant) issueRequest {
	req := issueRequest{
		sub:      sub,
		grant:    g,
		reason:   "handshake",
		priority: withVisitor,
	}
	if g.trust == untrusted {
		req.priority = untrustedVisitor
	}
	return req
}

// lead begins an issuance, or joins one that began since, and waits for it.
func (s *server) lead(ctx context.Context, sub subject, hs handshake, g grant) (*certificate, error) {
	req := visitorRequest(sub, g)
	req.asker = hs.askedBy()
	call, err := s.issuer.begin(req, func() error {
		if cert := s.memory.get(hs.host, hs.want, s.now()); cert != nil {
			return errHave{cert}
		}
		if !s.gate.isCurrent(hs.host, g) {
			return errNotCurrent
		}
		return s.issuer.mayIssue(req)
	})
	if have, ok := err.(errHave); ok {
		return have.cert, nil
	}
	if err != nil {
		return nil, err
	}
	if !call.Began {
		return s.join(ctx, hs, call.Call)
	}
	return awaitLed(ctx, s, hs, call.Call)
}
