package acmetest

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Endpoint is a kind of resource of the CA. Its value also appears in the log.
type Endpoint string

// The endpoints. Any matches all of them.
const (
	Any           Endpoint = ""
	Directory     Endpoint = "directory"
	NewNonce      Endpoint = "newNonce"
	NewAccount    Endpoint = "newAccount"
	UpdateAccount Endpoint = "account" // requests to an account's URL
	KeyChange     Endpoint = "keyChange"
	OrdersList    Endpoint = "orders" // the list of an account's orders
	NewOrder      Endpoint = "newOrder"
	Order         Endpoint = "order"
	Authorization Endpoint = "authorization"
	Challenge     Endpoint = "challenge"
	Finalize      Endpoint = "finalize"
	Certificate   Endpoint = "certificate"
	RevokeCert    Endpoint = "revokeCert"
	RenewalInfo   Endpoint = "renewalInfo"
	Unknown       Endpoint = "unknown" // a path without a resource
)

// mustBeEndpoint panics if e is none of the constants: then it fits no request,
// and the test tests nothing.
func mustBeEndpoint(e Endpoint) {
	all := []Endpoint{Any, Directory, NewNonce, NewAccount, UpdateAccount, KeyChange, OrdersList, NewOrder, Order,
		Authorization, Challenge, Finalize, Certificate, RevokeCert, RenewalInfo, Unknown}
	if !slices.Contains(all, e) {
		panic(fmt.Sprintf("acmetest: unknown endpoint %q; the constants of type Endpoint are %q", e, all))
	}
}

const (
	pathDirectory  = "/directory"
	pathNewNonce   = "/new-nonce"
	pathNewAccount = "/new-account"
	pathNewOrder   = "/new-order"
	pathRevokeCert = "/revoke-cert"
	pathKeyChange  = "/key-change"

	// Followed by a certificate's identifier.
	pathRenewalInfo = "/renewal-info/"

	// Followed by a number.
	pathAccount       = "/account/"
	pathOrdersList    = "/orders/" // by the account
	pathOrder         = "/order/"
	pathAuthorization = "/authorization/"
	pathChallenge     = "/challenge/"
	pathFinalize      = "/finalize/"
	pathCertificate   = "/certificate/"
)

// parsePath returns the endpoint of a path, and the resource's number if the
// path contains one.
func parsePath(path string) (Endpoint, int) {
	switch path {
	case pathDirectory:
		return Directory, 0
	case pathNewNonce:
		return NewNonce, 0
	case pathNewAccount:
		return NewAccount, 0
	case pathNewOrder:
		return NewOrder, 0
	case pathRevokeCert:
		return RevokeCert, 0
	case pathKeyChange:
		return KeyChange, 0
	}
	if strings.HasPrefix(path, pathRenewalInfo) {
		return RenewalInfo, 0
	}
	for _, numbered := range []struct {
		prefix   string
		endpoint Endpoint
	}{
		{pathAccount, UpdateAccount},
		{pathOrdersList, OrdersList},
		{pathOrder, Order},
		{pathAuthorization, Authorization},
		{pathChallenge, Challenge},
		{pathFinalize, Finalize},
		{pathCertificate, Certificate},
	} {
		if rest, ok := strings.CutPrefix(path, numbered.prefix); ok {
			if numbered.endpoint == Certificate {
				rest, _, _ = strings.Cut(rest, "/") // the rest selects a chain
			}
			// Each number has one spelling: "01" and "+1" are not found.
			if id, err := strconv.Atoi(rest); err == nil && id > 0 && strconv.Itoa(id) == rest {
				return numbered.endpoint, id
			}
		}
	}
	return Unknown, 0
}

// url returns the URL of the numbered resource below prefix.
func (s *Server) url(prefix string, id int) string { return s.base + prefix + strconv.Itoa(id) }
