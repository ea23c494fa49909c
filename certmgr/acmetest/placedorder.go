package acmetest

import (
	"crypto/x509"
	"slices"
	"time"
)

// PlacedOrder is a snapshot of an order.
type PlacedOrder struct {
	// URL is the order's URL.
	URL string
	// Account is the URL of the account that placed it.
	Account string
	// Hosts holds its names, sorted.
	Hosts []string
	// Status is "pending", "ready", "processing", "valid" or "invalid" (RFC
	// 8555, section 7.1.6).
	Status string
	// Profile is its profile; empty means none.
	Profile string
	// Replaces is the identifier of the certificate that it replaces, as from
	// CertID; empty means none.
	Replaces string
	// InWindow is whether it was placed within the replaced certificate's
	// renewal window at that time. Let's Encrypt exempts such orders from its
	// rate limits.
	InWindow bool
	// Created and Expires are when it was placed and when it becomes invalid
	// unless finalized, by the CA's clock.
	Created, Expires time.Time
	// Problem is why it is invalid: the error of the order, or of a challenge
	// of one of its authorizations. It is nil if the order is not invalid, or
	// if it merely expired or was ended by the client. Its Type has no prefix.
	Problem *Problem
	// Certificate is the issued leaf; nil if there is none.
	Certificate *x509.Certificate
}

// InFlight reports whether the order is unfinished: pending, ready or
// processing.
func (o PlacedOrder) InFlight() bool {
	return o.Status == pending || o.Status == ready || o.Status == processing
}

// Orders returns the orders, oldest first.
func (s *Server) Orders() []PlacedOrder {
	s.mustBeUsable()
	return s.placedOrders()
}

func (s *Server) placedOrders() []PlacedOrder {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	list := make([]PlacedOrder, len(s.state.orders))
	for i, o := range s.state.orders {
		list[i] = PlacedOrder{
			URL:     s.url(pathOrder, o.id),
			Account: s.url(pathAccount, o.account.id),
			Hosts:   slices.Clone(o.hosts),
			Status:  o.current(now),
			Profile: o.profile,
			Created: o.created,
			Expires: o.expires,
			Problem: o.cause(),

			InWindow: o.inWindow,
		}
		if o.replaces != nil {
			list[i].Replaces = o.replaces.certID
		}
		if o.certificate != nil {
			list[i].Certificate = o.certificate.leaf
		}
	}
	return list
}

// cause returns a copy of the problem that made the order invalid, possibly
// that of a failed challenge, or nil. Server.mu is held.
func (o *order) cause() *Problem {
	problem := o.problem
	for _, a := range o.authorizations {
		for _, c := range a.challenges {
			if problem == nil {
				problem = c.problem
			}
		}
	}
	if problem == nil {
		return nil
	}
	p := *problem
	p.Type = shortType(p.Type)
	p.Subproblems = slices.Clone(p.Subproblems)
	return &p
}
