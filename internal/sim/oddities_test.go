package sim

import (
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// oddity is what some CA does, and most do not. A certificate can be had all the
// same.
type oddity struct {
	name  string
	begin func(ca *acmetest.Server, host string) (undo []func()) // host may be "*"
	costs time.Duration                                          // how much later the first certificate is
}

// oddities are all of them.
var oddities = []oddity{
	{"orders are returned again", afterLosing(acmetest.NewOrder, (*acmetest.Server).ReuseOrder), 0},
	{"pending authorizations are shared", afterLosing(acmetest.NewOrder, (*acmetest.Server).ReusePendingAuthorization), 0},
	{"a second accept is refused", afterLosing(acmetest.Challenge, (*acmetest.Server).RefuseSecondAccept), 0},
	{"certificates come twice in the chain", ofHost((*acmetest.Server).DuplicateChain), 0},
	{"the chain ends with cross-signed roots", ofHost((*acmetest.Server).CrossSignedChain), 0},
	{"orders stay ready for 5 s", func(ca *acmetest.Server, host string) []func() {
		return []func(){ca.StaysReady(host, 5*time.Second).Lift}
	}, 5 * time.Second},
	{"validation takes 20 s", func(ca *acmetest.Server, host string) []func() {
		return []func(){ca.SlowValidation(host, 20*time.Second).Lift}
	}, 20 * time.Second},
	{"replicas lag by 2 reads", lagging(acmetest.Lag{Reads: 2}), 15 * time.Second},
	{"replicas lag by 2 s", lagging(acmetest.Lag{For: 2 * time.Second}), 15 * time.Second},
	{"successes have status 200", ofRequests(func(ca *acmetest.Server, m acmetest.Match) *acmetest.Fault {
		return ca.SuccessStatus(m, http.StatusOK)
	}), 0},
	{"successes have status 202", ofRequests(func(ca *acmetest.Server, m acmetest.Match) *acmetest.Fault {
		return ca.SuccessStatus(m, http.StatusAccepted)
	}), 0},
	{"URLs are relative", ofRequests((*acmetest.Server).RelativeURLs), 0},
}

func ofHost(begin func(*acmetest.Server, string, ...acmetest.FaultOption) *acmetest.Fault) func(*acmetest.Server, string) []func() {
	return func(ca *acmetest.Server, host string) []func() { return []func(){begin(ca, host).Lift} }
}

// afterLosing is ofHost with the first reply of an endpoint lost, so that the
// client asks again.
func afterLosing(e acmetest.Endpoint, begin func(*acmetest.Server, string, ...acmetest.FaultOption) *acmetest.Fault) func(*acmetest.Server, string) []func() {
	return func(ca *acmetest.Server, host string) []func() {
		lost := acmetest.Match{Endpoint: e, Host: host, Count: 1}
		return []func(){begin(ca, host).Lift, ca.DropReply(lost).Lift}
	}
}

// ofRequests is for oddities of all requests about any host.
func ofRequests(begin func(*acmetest.Server, acmetest.Match) *acmetest.Fault) func(*acmetest.Server, string) []func() {
	return func(ca *acmetest.Server, host string) []func() {
		return []func(){begin(ca, acmetest.Match{Host: host}).Lift}
	}
}

func lagging(lag acmetest.Lag) func(*acmetest.Server, string) []func() {
	return ofRequests(func(ca *acmetest.Server, m acmetest.Match) *acmetest.Fault { return ca.ReplicationLag(m, lag) })
}

// refuseHost makes the CA refuse a host in one of the ways that concern it
// alone.
func refuseHost(ca *acmetest.Server, host string, variant int) (undo func()) {
	switch variant % 3 {
	case 0:
		return ca.PauseName(host).Lift
	case 1:
		return ca.RejectName(host).Lift
	default:
		return ca.FailSecondaryValidation(host, "", acmetest.Problem{}).Lift
	}
}

// failValidations makes validations of a host fail, at once or from another
// perspective of the CA.
func failValidations(ca *acmetest.Server, host string, variant int) (undo func()) {
	if variant%2 == 0 {
		return ca.FailSecondaryValidation(host, "", acmetest.Problem{}).Lift
	}
	return ca.FailValidation(host, "", acmetest.Problem{Type: "connection"}).Lift
}

// blockAccounts makes the CA refuse all accounts, in the words of one that
// exists.
func blockAccounts(ca *acmetest.Server, variant int) (undo func()) {
	words := []acmetest.AccountBlock{acmetest.BoulderDeactivated, acmetest.BoulderRevoked, acmetest.ZeroSSLDeactivated, acmetest.StepCADeactivated}
	return ca.BlockAccount(acmetest.Match{}, words[variant%len(words)]).Lift
}

// withdrawProfile takes a profile out of the directory, or makes the CA refuse it.
func withdrawProfile(ca *acmetest.Server, variant int, name string) (undo func()) {
	if variant%2 == 0 {
		return ca.Edit(acmetest.Match{Endpoint: acmetest.Directory}, func(r *acmetest.Reply) {
			r.EditObject(func(dir map[string]any) {
				delete(dir["meta"].(map[string]any)["profiles"].(map[string]any), name)
			})
		}).Lift
	}
	return ca.Status(acmetest.Match{Endpoint: acmetest.NewOrder}, http.StatusBadRequest, nil, acmetest.Problem{Type: "invalidProfile"}).Lift
}

// drawHabits sets what a CA does all the time.
func drawHabits(ca *acmetest.Server, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 1<<32))
	for _, habit := range []*bool{&ca.FinalizeLocation, &ca.RequestedDates, &ca.RetryAfterDates, &ca.ReuseAuthorizations} {
		*habit = rng.IntN(2) == 0
	}
}
