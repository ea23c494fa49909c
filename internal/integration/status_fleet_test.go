package integration

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/audit"
)

// fleet is a source of the status page that never changes by itself: the same
// hosts at the same time, so that its pictures are always the same.
type fleet struct {
	mu   sync.Mutex
	snap certmgr.Snapshot // mu
	nums certmgr.Metrics
}

func (f *fleet) Snapshot() certmgr.Snapshot {
	f.mu.Lock()
	defer f.mu.Unlock()
	snap := f.snap
	snap.Hosts = append([]certmgr.HostStatus(nil), f.snap.Hosts...)
	return snap
}

func (f *fleet) Metrics() certmgr.Metrics { return f.nums }

func (f *fleet) HostEvents(host string) certmgr.HostEvents {
	f.mu.Lock()
	defer f.mu.Unlock()
	var kept certmgr.HostEvents
	for _, e := range f.snap.RecentEvents {
		if e.Host == host {
			kept.Events = append(kept.Events, e)
		}
	}
	return kept
}

// change changes the next Snapshot.
func (f *fleet) change(do func(*certmgr.Snapshot)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do(&f.snap)
}

// fleetTime is the time of every fleet.
var fleetTime = time.Date(2026, 11, 20, 14, 32, 7, 0, time.UTC)

const (
	fleetCA = "https://acme-v02.api.letsencrypt.org/directory"
	day     = 24 * time.Hour
)

// newFleet returns hosts in every state.
func newFleet() *fleet {
	now := fleetTime
	valid := func(host string, age, refused int) certmgr.HostStatus {
		issued := now.Add(-time.Duration(age)*day - time.Duration(age*37)*time.Minute)
		return certmgr.HostStatus{Host: host, KeyType: "ECDSA", State: certmgr.StateValid, NotBefore: issued.Add(-time.Hour),
			NotAfter: issued.Add(90*day - time.Hour), StateSince: issued, RenewAt: issued.Add(60 * day), RenewalCause: certmgr.RenewalCauseCA,
			Refused: uint64(refused), LastRequested: now.Truncate(time.Hour)}
	}
	failed := func(h certmgr.HostStatus, state certmgr.HostState, stage audit.Stage, ago, retry time.Duration, n int,
		cause string) certmgr.HostStatus {
		h.State, h.RetryAt = state, now.Add(retry)
		h.Failure = &certmgr.IssuanceError{Host: h.Host, KeyType: h.KeyType, Stage: stage, CA: fleetCA, Attempt: "k3v9-7",
			Attempts: n, Time: now.Add(-ago), RetryAt: h.RetryAt, Err: errors.New(cause)}
		return h
	}
	none := func(host string, since time.Duration, refused int) certmgr.HostStatus {
		return certmgr.HostStatus{Host: host, KeyType: "ECDSA", StateSince: now.Add(-since), Refused: uint64(refused),
			LastRequested: now.Truncate(time.Hour)}
	}

	issuing := none("launch.example.org", 4*time.Second, 2)
	issuing.State, issuing.Issuing, issuing.IssuingSince, issuing.Stage, issuing.Waiting = certmgr.StateIssuing, true,
		now.Add(-4*time.Second), audit.StageChallenge, 3
	renewing := valid("api.example.com", 60, 0)
	renewing.Issuing, renewing.IssuingSince, renewing.Stage = true, now.Add(-2*time.Second), audit.StageFinalize
	expired := valid("old.example.net", 90, 18)
	expired.State, expired.StateSince, expired.RenewalCause = certmgr.StateExpired, expired.NotAfter, certmgr.RenewalCauseRetry
	late := failed(valid("shop.example.com", 79, 0), certmgr.StateValid, audit.StageAuthorization, 3*time.Hour, 21*time.Hour, 14,
		"429 urn:ietf:params:acme:error:rateLimited: too many failed authorizations (5) for \"shop.example.com\" in the last 1h0m0s")
	late.RenewalCause, late.RenewAt = certmgr.RenewalCauseRetry, late.RetryAt
	byAge := valid("intranet.example.com", 12, 0)
	byAge.RenewalCause = certmgr.RenewalCauseLifetime
	fresh := valid("blog.example.org", 0, 0)
	fresh.StateSince = now.Add(-6 * time.Minute)
	rsa := valid("www.example.com", 23, 0)
	rsa.KeyType = "RSA"
	explained := valid("static.example.com", 41, 0)
	explained.ExplanationURL = "https://letsencrypt.org/docs/"

	f := &fleet{}
	f.snap = certmgr.Snapshot{Time: now, CA: fleetCA, Issuing: 2, Waiting: 3, Refused: 4127}
	f.snap.Hosts = []certmgr.HostStatus{
		renewing, fresh, valid("docs.example.com", 31, 0), byAge, issuing,
		failed(none("login.example.com", 26*time.Hour, 3894), certmgr.StateBackoff, audit.StageChallenge,
			11*time.Minute, 49*time.Minute, 9, "tls-alpn-01: 400 urn:ietf:params:acme:error:unauthorized: 203.0.113.80: the certificate that was presented there "+
				"is for another name; the CA's request was not seen here"),
		failed(none("mail.example.org", 9*time.Minute, 41), certmgr.StateFailed, audit.StageOrder,
			9*time.Minute, -8*time.Minute, 1, "400 urn:ietf:params:acme:error:caa: CAA record for example.org forbids issuance"),
		expired, late, explained, valid("www.example.com", 23, 0), rsa,
	}
	f.snap.RecentEvents = fleetEvents(now)
	f.nums = certmgr.Metrics{Time: now, Issued: 46, Handshakes: map[audit.Result]uint64{
		audit.ResultServed: 1_284_310, audit.ResultChallenge: 131, audit.ResultBackoff: 3882, audit.ResultInFlight: 23,
		audit.ResultFailed: 14, audit.ResultNotAllowed: 187, audit.ResultNoServerName: 21,
	}, Failed: map[audit.Stage]uint64{audit.StageChallenge: 9, audit.StageAuthorization: 14, audit.StageOrder: 1}}
	return f
}

func fleetEvents(now time.Time) []audit.Event {
	return []audit.Event{
		{Seq: 611, Time: now.Add(-11 * time.Minute), Kind: audit.IssuanceFailed, Host: "login.example.com",
			Stage: audit.StageChallenge, Duration: 3180 * time.Millisecond, RetryAt: now.Add(49 * time.Minute),
			Err: errors.New("tls-alpn-01: 400 urn:ietf:params:acme:error:unauthorized: 203.0.113.80: " +
				"the certificate that was presented there is for another name")},
		{Seq: 612, Time: now.Add(-9 * time.Minute), Kind: audit.IssuanceFailed, Host: "mail.example.org", Stage: audit.StageOrder,
			Duration: 240 * time.Millisecond, RetryAt: now.Add(-8 * time.Minute),
			Err: errors.New("400 urn:ietf:params:acme:error:caa: CAA record for example.org forbids issuance")},
		{Seq: 613, Time: now.Add(-6 * time.Minute), Kind: audit.CertificateIssued, Host: "blog.example.org", KeyType: "ECDSA",
			Duration: 5412 * time.Millisecond, NotAfter: now.Add(90 * day)},
		{Seq: 614, Time: now.Add(-50 * time.Second), Kind: audit.HandshakesRefused, Host: "login.example.com",
			Result: audit.ResultBackoff, Count: 57, Decision: audit.Refused, Rule: "Backoff", RemoteAddr: "198.51.100.23:40112"},
		{Seq: 615, Time: now.Add(-4 * time.Second), Kind: audit.IssuanceStarted, Host: "launch.example.org", KeyType: "ECDSA",
			RemoteAddr: "198.51.100.7:51514", Reason: "a visitor asked for it"},
		{Seq: 616, Time: now.Add(-2 * time.Second), Kind: audit.IssuanceStarted, Host: "api.example.com", KeyType: "ECDSA",
			Reason: "renewal is due"},
	}
}

// grow adds hosts with valid certificates until there are n.
func (f *fleet) grow(n int) *fleet {
	for i := len(f.snap.Hosts); i < n; i++ {
		h := f.snap.Hosts[1]
		h.Host = fmt.Sprintf("customer-%05d.example.net", i)
		f.snap.Hosts = append(f.snap.Hosts, h)
	}
	return f
}
