package acmetest

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"slices"
	"time"
)

// The states of RFC 8555, section 7.1.6.
const (
	pending     = "pending"
	ready       = "ready"
	processing  = "processing"
	valid       = "valid"
	invalid     = "invalid"
	deactivated = "deactivated"
	expired     = "expired"
)

// The lifetime of an order or a pending authorization, and how long a valid
// authorization can be reused.
const (
	pendingLifetime = 7 * 24 * time.Hour
	validLifetime   = 30 * 24 * time.Hour
)

// state is the CA's data. Resources are numbered from 1 in order of creation;
// number n of a kind is at index n-1. Server.mu guards all of it, including the
// pointers' targets.
type state struct {
	accounts       []*account
	accountByKey   map[string]*account // by thumbprint
	terms          string              // the URL of the terms of service in force, or empty
	orders         []*order
	authorizations []*authorization
	challenges     []*challenge
	certificates   []*certificate

	// Indexes, so that a long simulation does not slow down.
	ordersFor         map[string][]*order         // by exactSet, oldest first
	authorizationsFor map[string][]*authorization // by name, oldest first
	certificatesFor   map[string][]*certificate   // by name, oldest first
	certificateByID   map[string]*certificate     // by certID; the newest, if a test has created duplicates
	certificateByDER  map[[sha256.Size]byte]*certificate
}

func (st *state) init() {
	st.accountByKey = make(map[string]*account)
	st.ordersFor = make(map[string][]*order)
	st.authorizationsFor = make(map[string][]*authorization)
	st.certificatesFor = make(map[string][]*certificate)
	st.certificateByID = make(map[string]*certificate)
	st.certificateByDER = make(map[[sha256.Size]byte]*certificate)
}

// addCertificate numbers and adds a certificate. Server.mu is held.
func (st *state) addCertificate(c *certificate) {
	c.id, c.born = len(st.certificates)+1, time.Now()
	st.certificates = append(st.certificates, c)
	for _, host := range c.hosts {
		st.certificatesFor[host] = append(st.certificatesFor[host], c)
	}
	st.certificateByID[c.certID] = c
	st.certificateByDER[sha256.Sum256(c.leaf.Raw)] = c
}

// addOrder numbers and adds an order. Server.mu is held.
func (st *state) addOrder(o *order) {
	o.id, o.born = len(st.orders)+1, time.Now()
	st.orders = append(st.orders, o)
	names := exactSet(o.hosts)
	st.ordersFor[names] = append(st.ordersFor[names], o)
}

// addAuthorization numbers and adds an authorization. Server.mu is held.
func (st *state) addAuthorization(a *authorization) {
	a.id, a.born = len(st.authorizations)+1, time.Now()
	st.authorizations = append(st.authorizations, a)
	st.authorizationsFor[a.host] = append(st.authorizationsFor[a.host], a)
}

type account struct {
	id      int
	key     *publicKey
	contact []string
	status  string
	agreed  bool
	terms   string          // the terms it agreed to
	binding json.RawMessage // to an external account, or nil
}

type order struct {
	id             int
	account        *account
	hosts          []string
	domains        []string // domains its certificate counts under
	authorizations []*authorization
	status         string
	expires        time.Time
	problem        *Problem
	certificate    *certificate
	replaces       *certificate // named by the client, or nil
	inWindow       bool         // placed within the renewal window of what it replaces
	profile        string       // a key of Server.Profiles, or empty
	created        time.Time
	born           time.Time   // created, by the machine's clock
	asked, dates   dates       // of the certificate, if RequestedDates is set
	seemsReady     func() bool // whether StaysReady applies, or nil
}

type authorization struct {
	id         int
	account    *account
	host       string
	profile    string // of the order it was created for
	status     string
	expires    time.Time
	born       time.Time // when it was created, by the machine's clock
	challenges []*challenge
}

type challenge struct {
	id            int
	authorization *authorization
	typ           string
	token         string
	status        string
	validated     time.Time
	problem       *Problem
}

type certificate struct {
	id      int
	account *account
	hosts   []string // of the order; the leaf's may have been edited
	leaf    *x509.Certificate
	request *x509.CertificateRequest
	chains  [][]byte // in PEM; the usual one first
	certID  string
	born    time.Time // when it was issued, by the machine's clock

	revoked     bool
	revokedAt   time.Time
	window      RenewalWindow // set by the test
	replacement *order        // the newest order that replaces it, or nil
}

// numbered returns number id of a list, or nil.
func numbered[T any](list []*T, id int) *T {
	if id < 1 || id > len(list) {
		return nil
	}
	return list[id-1]
}

// current returns the authorization's status now. Server.mu is held.
func (a *authorization) current(now time.Time) string {
	if (a.status == pending || a.status == valid) && now.After(a.expires) {
		a.status = expired
	}
	return a.status
}

// current returns the order's status now, which depends on its authorizations
// until it is finalized (RFC 8555, section 7.1.6). Server.mu is held.
func (o *order) current(now time.Time) string {
	if o.status != pending && o.status != ready {
		return o.status
	}
	if now.After(o.expires) {
		o.status = invalid
		return o.status
	}
	o.status = ready
	for _, a := range o.authorizations {
		switch a.current(now) {
		case valid:
		case pending:
			if o.status == ready {
				o.status = pending
			}
		default:
			o.status = invalid
		}
	}
	return o.status
}

// revoke revokes the certificate. Server.mu is held.
func (c *certificate) revoke(now time.Time) {
	c.revoked, c.revokedAt = true, now
	c.window = RenewalWindow{} // an earlier setting no longer applies
}

// hostsOf returns the names that the requested resource is about.
func (s *Server) hostsOf(x *exchange) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch id := x.id; x.endpoint {
	case Order, Finalize:
		if o := numbered(s.state.orders, id); o != nil {
			return slices.Clone(o.hosts)
		}
	case Authorization:
		if a := numbered(s.state.authorizations, id); a != nil {
			return []string{a.host}
		}
	case Challenge:
		if c := numbered(s.state.challenges, id); c != nil {
			return []string{c.authorization.host}
		}
	case Certificate:
		if c := numbered(s.state.certificates, id); c != nil {
			return slices.Clone(c.hosts)
		}
	case RenewalInfo:
		if c, _ := s.certificateWith(x.certID()); c != nil {
			return slices.Clone(c.hosts)
		}
	}
	return nil
}
