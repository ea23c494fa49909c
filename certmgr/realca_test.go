package certmgr_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
)

// What real CAs do costs a new host seconds, and never a second certificate.
func TestWhatRealCAsDoCostsSeconds(t *testing.T) {
	t.Parallel()
	const host = "a.example.com"
	on := func(e acmetest.Endpoint) acmetest.Match { return acmetest.Match{Endpoint: e, Count: 1} }
	everywhere := acmetest.Match{}
	for name, tt := range map[string]struct {
		begin  func(ca *acmetest.Server) *acmetest.Fault // nil if only set matters
		set    func(ca *acmetest.Server)                 // its fields, or nil
		within time.Duration
	}{
		"second accept": {begin: func(ca *acmetest.Server) *acmetest.Fault {
			ca.DropReply(on(acmetest.Challenge)) // so that there is one
			return ca.RefuseSecondAccept(host)
		}, within: 15 * time.Second},
		"order reused": {begin: func(ca *acmetest.Server) *acmetest.Fault {
			ca.DropReply(on(acmetest.NewOrder))
			return ca.ReuseOrder(host)
		}, within: 15 * time.Second},
		"pending authorization reused": {begin: func(ca *acmetest.Server) *acmetest.Fault {
			ca.DropReply(on(acmetest.NewOrder))
			return ca.ReusePendingAuthorization(host)
		}, within: 15 * time.Second},
		"replication lag of 2 reads": {begin: func(ca *acmetest.Server) *acmetest.Fault {
			return ca.ReplicationLag(everywhere, acmetest.Lag{Reads: 2})
		}, within: 20 * time.Second},
		"replication lag of 2 s": {begin: func(ca *acmetest.Server) *acmetest.Fault {
			return ca.ReplicationLag(everywhere, acmetest.Lag{For: 2 * time.Second})
		}, within: 30 * time.Second},
		"relative URLs": {begin: func(ca *acmetest.Server) *acmetest.Fault { return ca.RelativeURLs(everywhere) }},
		"202":           {begin: func(ca *acmetest.Server) *acmetest.Fault { return ca.SuccessStatus(everywhere, 202) }},
		"200":           {begin: func(ca *acmetest.Server) *acmetest.Fault { return ca.SuccessStatus(everywhere, 200) }},
		"stays ready": {begin: func(ca *acmetest.Server) *acmetest.Fault { return ca.StaysReady(host, 5*time.Second) },
			within: 15 * time.Second},
		"gateway": {begin: func(ca *acmetest.Server) *acmetest.Fault { return ca.GatewayPage(on(acmetest.NewOrder), 502) },
			within: 15 * time.Second},
		"gateway's time-out": {begin: func(ca *acmetest.Server) *acmetest.Fault { return ca.GatewayPage(on(acmetest.Finalize), 504) },
			within: 15 * time.Second},
		"cut before":    {begin: func(ca *acmetest.Server) *acmetest.Fault { return ca.Drop(on(acmetest.Finalize)) }, within: 15 * time.Second},
		"cut after":     {begin: func(ca *acmetest.Server) *acmetest.Fault { return ca.DropReply(on(acmetest.Finalize)) }, within: 15 * time.Second},
		"cut in a body": {begin: func(ca *acmetest.Server) *acmetest.Fault { return ca.Truncate(on(acmetest.Finalize)) }, within: 15 * time.Second},
		"duplicates":    {begin: func(ca *acmetest.Server) *acmetest.Fault { return ca.DuplicateChain(host) }},
		"cross-signed":  {begin: func(ca *acmetest.Server) *acmetest.Fault { return ca.CrossSignedChain(host) }},
		"slow validation": {begin: func(ca *acmetest.Server) *acmetest.Fault { return ca.SlowValidation(host, 30*time.Second) },
			within: 40 * time.Second},
		"slow validation in the reply": {begin: func(ca *acmetest.Server) *acmetest.Fault { return ca.SlowValidation(host, 15*time.Second) },
			set: func(ca *acmetest.Server) { ca.ValidateInReply = acmetest.Always }, within: 40 * time.Second},
		"no Location of orders that are read": {begin: func(ca *acmetest.Server) *acmetest.Fault {
			ca.StaysReady(host, time.Second)
			return ca.NoLocation(acmetest.Match{Endpoint: acmetest.Order})
		}, within: 15 * time.Second},
		"processing, no Location": {set: func(ca *acmetest.Server) { ca.Processing = 3 * time.Second }, within: 15 * time.Second},
		"processing, Location": {set: func(ca *acmetest.Server) { ca.Processing, ca.FinalizeLocation = 3*time.Second, true },
			within: 15 * time.Second},
		"dates of orders":      {set: func(ca *acmetest.Server) { ca.RequestedDates = true }},
		"dates as Retry-After": {set: func(ca *acmetest.Server) { ca.RetryAfterDates = true }},
		"valid authorizations": {set: func(ca *acmetest.Server) { ca.ReuseAuthorizations = true }},
		"perspectives disagree": {begin: func(ca *acmetest.Server) *acmetest.Fault {
			return ca.FailSecondaryValidation(host, "", acmetest.Problem{}, acmetest.Times(1))
		}, within: 2 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ca := acmetest.NewUnstartedServer()
				if tt.set != nil {
					tt.set(ca)
				}
				ca.StartMemory()
				w := newWorldOf(t, ca)
				defer w.close()
				var fault *acmetest.Fault
				if tt.begin != nil {
					fault = tt.begin(w.ca)
				}
				start := time.Now()
				_, err := w.get(host)
				for err != nil && time.Since(start) < tt.within {
					time.Sleep(time.Second)
					_, err = w.get(host)
				}
				if err != nil {
					t.Fatalf("no certificate after %v: %v", time.Since(start), err)
				}
				if fault != nil && fault.Acted() == 0 {
					t.Error("the fault never acted")
				}
				if n := len(w.ca.IssuedFor(host)); n != 1 {
					t.Errorf("%d certificates were issued, want 1", n)
				}
			})
		})
	}
}

// What only a human can end is refused with the CA's words and what to do.
func TestWhatRealCAsRefuseIsToldWhole(t *testing.T) {
	const host = "a.example.com"
	accountKey := `delete the entry "acme_account+key" from the Cache`
	for name, tt := range map[string]struct {
		begin func(ca *acmetest.Server) *acmetest.Fault
		says  []string
		state certmgr.HostState
	}{
		"Boulder, deactivated": {blocked(acmetest.BoulderDeactivated), []string{`has status "deactivated"`, accountKey}, ""},
		"Boulder, revoked":     {blocked(acmetest.BoulderRevoked), []string{`has status "revoked"`, accountKey}, ""},
		"ZeroSSL":              {blocked(acmetest.ZeroSSLDeactivated), []string{"The account has been deactivated", accountKey}, ""},
		"step-ca":              {blocked(acmetest.StepCADeactivated), []string{"account is not active", accountKey}, ""},
		"paused": {func(ca *acmetest.Server) *acmetest.Fault { return ca.PauseName(host) },
			[]string{"temporarily prevented", "unpause"}, certmgr.StatePaused},
		"rejected": {func(ca *acmetest.Server) *acmetest.Fault { return ca.RejectName(host) },
			[]string{"forbidden by policy", "another CA"}, certmgr.StateRejected},
		"perspectives disagree": {func(ca *acmetest.Server) *acmetest.Fault {
			return ca.FailSecondaryValidation(host, "", acmetest.Problem{})
		},
			[]string{"During secondary validation: "}, ""},
		"no Location": {func(ca *acmetest.Server) *acmetest.Fault {
			return ca.NoLocation(acmetest.Match{Endpoint: acmetest.NewOrder})
		}, []string{"no Location"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.mustGet("b.example.com")
				fault := tt.begin(w.ca)
				_, err := w.get(host)
				failed, ok := errors.AsType[*certmgr.IssuanceError](err)
				if !ok || tt.state != "" && failed.State != tt.state {
					t.Fatalf("the error is %v", err)
				}
				for _, says := range tt.says {
					if text := certmgr.InFull(err).Error(); !strings.Contains(text, says) {
						t.Errorf("the error lacks %q: %s", says, text)
					}
				}
				if tt.state == certmgr.StatePaused && (!strings.Contains(failed.UnpauseURL, "/sfe/v1/unpause?jwt=") || len(failed.UnpauseURL) < 700) {
					t.Errorf("the link is %q", failed.UnpauseURL)
				}
				if fault.Acted() == 0 || len(w.ca.IssuedFor(host)) != 0 {
					t.Errorf("the fault acted %d times", fault.Acted())
				}
			})
		})
	}
}

func blocked(how acmetest.AccountBlock) func(ca *acmetest.Server) *acmetest.Fault {
	return func(ca *acmetest.Server) *acmetest.Fault { return ca.BlockAccount(acmetest.Match{}, how) }
}
