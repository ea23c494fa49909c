package certmgr

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/cache"
	"github.com/nostall/nostall/internal/bundle"
)

// newTestFailure is one of an attempt for sub that ended at a stage.
func newTestFailure(sub subject, stage audit.Stage, retryAt time.Time) *failure {
	return &failure{err: &IssuanceError{Host: sub.host(), Stage: stage, CA: sub.ca, Time: time.Now(), RetryAt: retryAt, Err: ErrBusy}}
}

// What is dropped is told, once there is no room: its record in the Cache goes too.
func TestFailuresTellWhatTheyDrop(t *testing.T) {
	f := newFailures()
	f.records.Max = 3
	now := time.Now()
	dropped := 0
	for i := range 10 {
		sub := newSubject(bundle.Algorithm(i%2), "ca", fmt.Sprintf("h%d.example.com", i))
		stage := audit.StageOrder
		if i%3 == 0 {
			stage = audit.StageChallenge
		}
		key, ok := f.put(sub, newTestFailure(sub, stage, now.Add(time.Hour)), now)
		if ok != (i >= 3) {
			t.Errorf("put of the failure %d says %v", i, ok)
		}
		if ok {
			dropped++
			if _, kept := f.records.Get(key); key.host == "" || kept || f.uses(key) {
				t.Errorf("%v was not dropped", key)
			}
		}
		if again, ok := f.put(sub, newTestFailure(sub, stage, now.Add(time.Hour)), now); ok {
			t.Errorf("%v was dropped for a host that is there", again)
		}
	}
	if f.records.Len() != 3 || dropped != 7 {
		t.Errorf("%d records, %d dropped", f.records.Len(), dropped)
	}
}

// The key of the entry is that under which the record was written.
func TestFailureKeyIsThatOfItsEntry(t *testing.T) {
	for _, typ := range []bundle.Algorithm{bundle.ECDSA, bundle.RSA} {
		for _, stage := range audit.Stages() {
			f := newFailures()
			sub := newSubject(typ, "ca", "a.example.com")
			rec := newTestFailure(sub, stage, time.Now().Add(time.Hour))
			f.put(sub, rec, time.Now())
			want, _ := newFailureRecord(sub, rec)
			at := failureKeyOf(sub, stage)
			for key := range f.records.All() {
				if key != want || !f.uses(key) {
					t.Errorf("%v at %s: %q, but the record is written under %q", typ, stage, key.cacheKey(), want.cacheKey())
				}
			}
			f.forgetHost("a.example.com")
			if f.uses(at) {
				t.Errorf("%q is still in use", want.cacheKey())
			}
		}
	}
}

// The cap on failures holds for the Cache, whose entries would outlive the process.
func TestDroppedFailureLeavesTheCache(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		endpoint acmetest.Endpoint
		rsa      bool
	}{{"order", acmetest.NewOrder, false}, {"order, RSA", acmetest.NewOrder, true}, {"challenge", acmetest.Challenge, false}} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ca := acmetest.NewMemoryServer()
				defer ca.Close()
				entries := new(cache.Memory)
				var hosts []string
				for i := range 30 {
					hosts = append(hosts, fmt.Sprintf("www.example%d.com", i))
				}
				m := &Manager{Prompt: AcceptTOS, Cache: entries, Hosts: MustAllowlist(hosts...), Audit: func(context.Context, audit.Event) {},
					Client: &acme.Client{DirectoryURL: ca.URL, HTTPClient: ca.Client()}}
				defer m.Close()
				m.init()
				m.engine.report.health.failures.records.Max = 5
				ca.Status(acmetest.Match{Endpoint: tt.endpoint}, http.StatusForbidden, nil, acmetest.Problem{Type: "rejectedIdentifier", Detail: "no"})
				for _, host := range hosts {
					hello := &tls.ClientHelloInfo{ServerName: host}
					if tt.rsa {
						hello.SignatureSchemes = []tls.SignatureScheme{tls.PSSWithSHA256}
					}
					if _, err := m.GetCertificate(hello); err == nil {
						t.Fatalf("%s was issued", host)
					}
					time.Sleep(time.Minute)
				}
				if n := m.engine.report.health.failures.records.Len(); n != 5 {
					t.Errorf("%d records in memory, want 5", n)
				}
				var kept []string
				for _, host := range hosts {
					for _, key := range []string{host + "+failure", host + "+rsa+failure"} {
						if _, err := entries.Get(t.Context(), key); err == nil {
							kept = append(kept, key)
						}
					}
				}
				if len(kept) != 5 || tt.rsa != slices.ContainsFunc(kept, func(k string) bool { return strings.Contains(k, "+rsa") }) {
					t.Errorf("the Cache keeps %d records: %q", len(kept), kept)
				}
			})
		})
	}
}

// Another record with the same entry keeps it.
func TestDroppedFailureLeavesTheEntryOfItsTwin(t *testing.T) {
	inside(t, func(t *testing.T, w *insides) {
		h := w.m.engine.report.health
		h.failures.records.Max = 2
		later := time.Now().Add(time.Hour)
		sub := newSubject(bundle.ECDSA, h.dir, "a.example.com")
		h.remember(sub, newTestFailure(sub, audit.StageOrder, time.Now())) // holds nothing back: the one to drop
		both := newTestFailure(sub, audit.StageChallenge, later)
		h.remember(sub, both)
		h.saveFailure(t.Context(), sub, both)
		other := newSubject(bundle.ECDSA, h.dir, "b.example.com")
		h.remember(other, newTestFailure(other, audit.StageOrder, later))
		synctest.Wait()
		if _, err := w.cache.Get(t.Context(), "a.example.com+failure"); err != nil {
			t.Errorf("the record of the failed validation: %v", err)
		}
	})
}

// Of two records about a certificate, that of its key type and that of its host,
// the one with the longer wait counts.
func TestLongerBackoffCounts(t *testing.T) {
	for _, stages := range [][2]audit.Stage{{audit.StageOrder, audit.StageChallenge}, {audit.StageChallenge, audit.StageOrder}} {
		f, now := newFailures(), time.Now()
		sub := newSubject(bundle.RSA, "ca", "a.example.com")
		f.put(sub, newTestFailure(sub, stages[0], now.Add(time.Hour)), now)
		f.put(sub, newTestFailure(sub, stages[1], now.Add(time.Minute)), now)
		if rec := f.active(sub, now.Add(time.Second)); rec == nil || rec.err.Stage != stages[0] {
			t.Errorf("the longer wait is that after %s, and another one counts", stages[0])
		}
	}
}

// What is over makes way first, then failures of untrusted hosts, and of others that
// whose wait ends first. Those of hosts on the list have places of their own.
func TestFailuresOfStrangersMakeWay(t *testing.T) {
	now := time.Now()
	failed := func(host string, trust trust, wait time.Duration) *failure {
		rec := newTestFailure(newSubject(bundle.ECDSA, "ca", host), audit.StageOrder, now.Add(wait))
		rec.trust = trust
		return rec
	}
	f := newFailures()
	f.records.Max, f.records.MaxMinor = 2, 2
	put := func(rec *failure) (evicted string) {
		key, _ := f.put(newSubject(bundle.ECDSA, "ca", rec.err.Host), rec, now)
		return key.host
	}
	for _, tt := range []struct {
		rec     *failure
		evicted string
	}{
		{failed("listed.example.com", listed, time.Minute), ""},
		{failed("over.example.com", listed, -time.Minute), ""},
		{failed("day.example.net", byPolicy, 24*time.Hour), ""},
		{failed("stranger.example.net", untrusted, 48*time.Hour), ""},
		{failed("hour.example.net", byPolicy, time.Hour), "stranger.example.net"},
		{failed("new.example.net", byPolicy, time.Minute), "hour.example.net"},
		{failed("last.example.net", untrusted, time.Minute), "new.example.net"},
		{failed("added.example.com", listed, time.Hour), "over.example.com"},
		{failed("again.example.com", listed, time.Hour), "listed.example.com"},
	} {
		if evicted := put(tt.rec); evicted != tt.evicted {
			t.Errorf("%q made way for %s, want %q", evicted, tt.rec.err.Host, tt.evicted)
		}
	}
}

// What strangers make grow has a cap, which is written out.
func TestFailuresAreBounded(t *testing.T) {
	for trust, most := range map[trust]int{untrusted: 3000, byPolicy: 3000, listed: 10_000} {
		f, now := newFailures(), time.Now()
		for i := range most + 1000 {
			sub := newSubject(bundle.ECDSA, "ca", fmt.Sprintf("www.host%d.com", i))
			f.put(sub, &failure{trust: trust, err: &IssuanceError{RetryAt: now.Add(time.Hour)}}, now)
		}
		if n := f.records.Len(); n != most {
			t.Errorf("%d records of hosts of trust %d, want %d", n, trust, most)
		}
	}
}
