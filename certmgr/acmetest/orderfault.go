package acmetest

import (
	"slices"
	"time"
)

// ReuseOrder makes newOrder return an account's pending or ready order for
// exactly the same names, profile and dates if there is one, even if that
// replaces a certificate and the request does not, instead of creating another.
// Let's Encrypt does so: two requests get the same order, and whoever makes one
// of its authorizations invalid does so for both.
func (s *Server) ReuseOrder(host string, options ...FaultOption) *Fault {
	return s.addHostFault(&hostFault{kind: faultReuseOrder, host: host}, options)
}

// ReusePendingAuthorization makes new orders share an account's pending
// authorization for a name, as Let's Encrypt did and other CAs do. One of its
// challenges may be in process already, or fail for all of these orders. The
// field ReuseAuthorizations is about valid authorizations.
func (s *Server) ReusePendingAuthorization(host string, options ...FaultOption) *Fault {
	return s.addHostFault(&hostFault{kind: faultReusePending, host: host}, options)
}

// StaysReady makes finalized orders for a name look as if they were still
// "ready" for d, in the reply to finalize and when they are read, as at CAs that
// process the CSR later. Meanwhile a second finalize is refused with
// "orderNotReady". Zero means until the fault is lifted.
func (s *Server) StaysReady(host string, d time.Duration, options ...FaultOption) *Fault {
	return s.addHostFault(&hostFault{kind: faultStaysReady, host: host, duration: d}, options)
}

// reusableOrder returns the order that ReuseOrder returns instead of o, or nil.
// s.mu is held.
func (s *Server) reusableOrder(o *order) *order {
	i := slices.IndexFunc(s.state.ordersFor[exactSet(o.hosts)], func(open *order) bool {
		status := open.current(o.created)
		return (status == pending || status == ready) && open.account == o.account && open.profile == o.profile &&
			(o.replaces == nil || open.replaces == o.replaces) && open.asked.equal(o.asked)
	})
	if i < 0 || len(s.hosts.take(faultReuseOrder, o.hosts...)) == 0 {
		return nil
	}
	return s.state.ordersFor[exactSet(o.hosts)][i]
}

// keepReady applies StaysReady to an order that is finalized now.
func (s *Server) keepReady(o *order) {
	taken := s.hosts.take(faultStaysReady, o.hosts...)
	if len(taken) == 0 {
		return
	}
	f, until := taken[0], time.Now().Add(taken[0].duration)
	s.mu.Lock()
	defer s.mu.Unlock()
	o.seemsReady = func() bool {
		select {
		case <-f.lifted:
			return false
		default:
			return f.duration == 0 || time.Now().Before(until)
		}
	}
}
