package certmgr

import (
	"context"
	"errors"

	"github.com/nostall/nostall/internal/flight"
)

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

// lead begins an issuance, or joins one that began since, and waits
// HandshakeWait for it.
func (s *server) lead(ctx context.Context, sub subject, want keyTypePrefs, g grant, who asker) (*certificate, error) {
	req := visitorRequest(sub, g)
	req.asker = who
	call, err := s.issuer.begin(req, func() error {
		if cert := s.memory.get(sub.host(), want, s.now()); cert != nil {
			return errHave{cert}
		}
		return s.issuer.mayIssue(req)
	})
	if have, ok := err.(errHave); ok {
		return have.cert, nil
	}
	if err != nil {
		return nil, withHost(err, sub.host())
	}
	if !call.Began {
		return s.join(ctx, sub, call.Call)
	}
	cert, err := call.WaitFor(ctx, s.settings.handshakeWait)
	if err == flight.ErrNotYet || errors.Is(err, ErrBusy) && !call.Ended() {
		return nil, inFlight(sub, call.Call)
	}
	return cert, err
}
