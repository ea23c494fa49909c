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
		{"cases", "B09/challenge", "an empty reason is printed as \"0 : \""},
		{"cases", "B09/order", "an empty reason is printed as \"0 : \""},
		{"cases", "B11/empty", "the date is parsed, although nothing depends on it"},
		{"cases", "B11/number", "the date is parsed, although nothing depends on it"},
		{"cases", "B11/space for T", "the date is parsed, although nothing depends on it"},
		{"cases", "B13/404 2 times", "a certificate that is answered 404 twice is given up, and another one issued"},
		{"cases", "B13/404 6 times", "a certificate that is answered 404 twice is given up, and another one issued"},
		{"cases", "B14/captive portal", "the error is that of a JSON decoder, and does not say that this is no ACME directory"},
		{"cases", "B14/meta is a string", "the error is that of a JSON decoder, and does not say that this is no ACME directory"},
		{"cases", "B14/no newAccount", "a directory that lacks something is used, and the error does not say what it lacks"},
		{"cases", "B14/no newNonce", "a directory that lacks something is used, and the error does not say what it lacks"},
		{"cases", "B14/nothing", "the error is that of a JSON decoder, and does not say that this is no ACME directory"},
		{"cases", "B26/1 h, 1 h back", "a certificate that is dated back counts as a wrong clock, although the CA's Date is right"},
		{"cases", "B26/24 h, 12 h back", "a certificate that is dated back counts as a wrong clock, although the CA's Date is right"},
		{"cases", "B26/3 h, 1 h back", "a certificate that is dated back counts as a wrong clock, although the CA's Date is right"},
		{"cases", "B26/4 h, 1 h back", "a certificate that is dated back counts as a wrong clock, although the CA's Date is right"},
		{"cases", "B44/404", "the error does not name the URL that answered 404"},
		{"cases", "B59/authorization 4 times", "404 for what was just made is not tried again within the attempt"},
		{"cases", "B59/authorization for 2 s", "404 for what was just made is not tried again within the attempt"},
		{"cases", "B59/challenge 2 times", "404 for what was just made is not tried again within the attempt"},
		{"cases", "B59/challenge 4 times", "404 for what was just made is not tried again within the attempt"},
		{"cases", "B59/challenge for 2 s", "404 for what was just made is not tried again within the attempt"},
		{"cases", "B59/finalize 2 times", "404 for what was just made is not tried again within the attempt"},
		{"cases", "B59/finalize 4 times", "404 for what was just made is not tried again within the attempt"},
		{"cases", "B59/finalize for 2 s", "404 for what was just made is not tried again within the attempt"},
		{"cases", "B59/newOrder 2 times", "an account that is not known yet is not tried again within the attempt"},
		{"cases", "B59/newOrder 4 times", "an account that is not known yet is not tried again within the attempt"},
		{"cases", "B59/order 2 times", "404 for an order that was finalized costs its certificate"},
		{"cases", "B59/order 4 times", "404 for an order that was finalized costs its certificate"},
		{"certmgr", "B25/first issuance after 2 failures", "what is overdue waits on by the monotonic clock, and then the scheduler spins"},
		{"certmgr", "B25/first issuance after 3 failures", "as after 2 failures"},
		{"certmgr", "B25/first issuance after 30 failures", "as after 2 failures"},
		{"certmgr", "B25/outage after 5 failures", "the breaker's time is over by the wall clock alone, and the scheduler spins"},
		{"certmgr", "B25/pace, frozen process", "moments are handed out long before they come, and come all at once"},
		{"certmgr", "B25/pace, suspended machine", "moments are handed out long before they come, and come all at once"},
		{"certmgr", "B25/renewal after 2 failures", "what is overdue waits on by the monotonic clock, and then the scheduler spins"},
		{"certmgr", "B25/renewal after 30 failures", "as after 2 failures"},
		{"certmgr", "B25/renewal after 5 failures", "as after 2 failures"},
	}
}
