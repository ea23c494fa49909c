package cases

// knownFailure is a case that fails as things are.
type knownFailure struct {
	pkg  string // the package whose tests hold the case: "cases", "certmgr", "integration"
	name string // as given to Run, with the names of subtests: "B03/ready"
	why  string // what is wrong with the product, in a line
}

// knownFailures returns the table. Lines may go, and none may come: what is
// broken anew is to be fixed.
func knownFailures() []knownFailure {
	return []knownFailure{
		{"cases", "B01", "newOrder answered 200 counts as a failure, although the CA made the order"},
		{"cases", "B02/authorization 201", "a success status other than RFC 8555's counts as a failure"},
		{"cases", "B02/certificate 201", "a success status other than RFC 8555's costs the certificate that was issued"},
		{"cases", "B02/certificate 203", "a success status other than RFC 8555's costs the certificate that was issued"},
		{"cases", "B02/challenge 201", "a success status other than RFC 8555's counts as a failure"},
		{"cases", "B02/finalize 201", "a success status other than RFC 8555's costs the certificate that was issued"},
		{"cases", "B02/newAccount 202", "a success status other than RFC 8555's counts as a failure"},
		{"cases", "B02/newOrder 202", "a success status other than RFC 8555's counts as a failure, although the CA made the order"},
		{"cases", "B02/order 201", "a success status other than RFC 8555's costs the certificate that was issued"},
		{"cases", "B02/order 202", "a success status other than RFC 8555's costs the certificate that was issued"},
		{"cases", "B03/pending", "an order that finalize has not changed yet is given up, and its certificate is lost"},
		{"cases", "B03/ready", "an order that finalize has not changed yet is given up, and its certificate is lost"},
		{"cases", "B04/intermediate twice", "a chain that a client could use is refused, and its certificate is lost"},
		{"cases", "B04/leaf last", "a chain with the leaf last is refused, and its certificate is lost"},
		{"cases", "B04/leaf twice", "a chain that a client could use is refused, and its certificate is lost"},
		{"cases", "B04/several ways", "a chain that a client could use is refused, and its certificate is lost"},
		{"cases", "B05/newAccount", "an account without a URL is used, and the error does not name Location"},
		{"cases", "B05/newOrder", "an order without a URL is finalized, and its certificate is lost"},
		{"cases", "B06/authorization", "a relative URL is sent to no host, and the error does not say that it is relative"},
		{"cases", "B06/directory", "a relative URL is sent to no host, and the error does not say that it is relative"},
		{"cases", "B06/newAccount", "a relative URL is sent to no host, and the error does not say that it is relative"},
		{"cases", "B06/newOrder", "a relative URL is sent to no host, and the error does not say that it is relative"},
		{"cases", "B06/order", "a relative URL is sent to no host, and certificates are lost"},
		{"cases", "B07/processing", "the next attempt takes the certificate that somebody else ordered, and fails once more"},
		{"cases", "B07/valid", "the next attempt takes the certificate that somebody else ordered, and fails once more"},
	}
}
