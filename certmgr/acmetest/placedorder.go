package acmetest

import (
	"crypto/x509"
	"slices"
	"time"
)

// PlacedOrder is an order of the CA as it was when the test asked.
type PlacedOrder struct {
	// URL is the order's URL.
	URL string
	// Account is the URL of the account that placed it.
	Account string
	// Hosts are its names, sorted.
	Hosts []string
	// Status is "pending", "ready", "processing", "valid" or "invalid" (RFC 8555, section 7.1.6).
	Status string
	// Profile is its profile; empty if it has none.
	Profile string
	// Replaces is the identifier of the certificate that it replaces, as from CertID; empty if it replaces none.
	Replaces string
	// InWindow is whether it was placed within the renewal window, as it was then, of the certificate that it replaces.
	// Let's Encrypt spares such orders its rate limits.
	InWindow bool
	// Created and Expires are when it was placed and when it is invalid if it is not finalized before, by the CA's clock.
	Created, Expires time.Time
	// Problem is why it is invalid: the error of the order, or of a challenge of one of its authorizations. It is nil
	// if the order is not invalid, or if nothing but time or the client ended it. Its Type is without the prefix.
	Problem *Problem
	// Certificate is the leaf that was issued; nil if there is none.
	Certificate *x509.Certificate
}

// InFlight reports whether something is left to do for the order: it is pending, ready or processing.
func (o PlacedOrder) InFlight() bool {
	return o.Status == pending || o.Status == ready || o.Status == processing
}

// Orders returns the orders, oldest first.
func (s *Server) Orders() []PlacedOrder {
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

// cause returns a copy of the problem that made the order invalid, or nil: a challenge that failed does. Server.mu is
// held.
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
