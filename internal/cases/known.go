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
	return []knownFailure{
		{"cases", "H08/list that flaps", "an attempt that the list cuts short leaves no trace, and the next one begins at once"},
		{"cases", "H09/AllowAnyHost", "nothing keeps orders of the account for the hosts on the list"},
		{"cases", "H09/policy that says yes", "nothing keeps orders of the account for the hosts on the list"},
		{"cases", "H18/opaque, suffix", "the target of a request that is no path is appended to the host as it is"},
		{"cases", "H18/opaque, userinfo", "the target of a request that is no path is appended to the host as it is"},
		{"cases", "H18/other scheme", "the target of a request that is no path is appended to the host as it is"},
		{"cases", "H19", "an answer that is live for another host is read from the Cache"},
		{"probe", "H21/0.1.2.3", "a preflight asks an address that no CA does"},
		{"probe", "H21/100.100.100.200", "a preflight asks an address that no CA does"},
		{"probe", "H21/168.63.129.16", "a preflight asks an address that no CA does"},
		{"probe", "H21/192.0.0.192", "a preflight asks an address that no CA does"},
		{"probe", "H21/2002:7f00:1::", "a preflight asks an address that no CA does"},
		{"probe", "H21/240.0.0.1", "a preflight asks an address that no CA does"},
		{"probe", "H21/255.255.255.255", "a preflight asks an address that no CA does"},
		{"probe", "H21/64:ff9b::7f00:1", "a preflight asks an address that no CA does"},
		{"probe", "H21/64:ff9b::a9fe:a9fe", "a preflight asks an address that no CA does"},
		{"probe", "H21/::127.0.0.1", "a preflight asks an address that no CA does"},
		{"probe", "H21/fd00:ec2::254", "a preflight asks an address that no CA does"},
	}
}
