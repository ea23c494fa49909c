package cases

// knownFailure is a case that currently fails.
type knownFailure struct {
	pkg  string // the package whose tests hold the case: "cases", "certmgr", "integration", "probe"
	name string // as given to Run, with the names of subtests: "B03/ready"
	why  string // the fault of certmgr, in a line
}

// knownFailures returns the table. Lines may be removed but never added: a new
// failure must be fixed.
func knownFailures() []knownFailure {
	return []knownFailure{}
}
