package certmgr

import (
	"crypto/tls"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/nostall/nostall/certmgr/audit"
)

// What a ClientHello carries makes no event larger than its bound.
func TestAskerIsBounded(t *testing.T) {
	protos := make([]string, 1000)
	for i := range protos {
		protos[i] = strings.Repeat("\xff", 200)
	}
	a := askerOf(&tls.ClientHelloInfo{ServerName: strings.Repeat("\x00", 60_000), SupportedProtos: protos})
	if len(a.sni) > maxAsked || len(a.alpn) > maxAsked {
		t.Errorf("%d and %d bytes", len(a.sni), len(a.alpn))
	}
}

// Visitors of one host on many cores add to different cells.
func TestCounterCountsEverything(t *testing.T) {
	var c counter
	var want atomic.Uint64
	done := make(chan struct{})
	for range 8 {
		go func() {
			for range 1000 {
				c.add(new(tls.Certificate))
				want.Add(1)
			}
			done <- struct{}{}
		}()
	}
	for range 8 {
		<-done
	}
	if c.load() != want.Load() {
		t.Errorf("%d of %d", c.load(), want.Load())
	}
}

// Results are counted by their index in the public list.
func TestResultsAreCountedUnderTheirNames(t *testing.T) {
	names := audit.Results()
	if len(names) != int(resultCount) {
		t.Fatalf("%d results, want %d", len(names), resultCount)
	}
	for r, want := range map[result]audit.Result{
		resServed: audit.ResultServed, resChallenge: audit.ResultChallenge, resNoServerName: audit.ResultNoServerName,
		resBadServerName: audit.ResultBadServerName, resNotAllowed: audit.ResultNotAllowed, resPolicyFailed: audit.ResultPolicyFailed,
		resNoChallenge: audit.ResultNoChallenge, resInFlight: audit.ResultInFlight, resFailed: audit.ResultFailed,
		resBackoff: audit.ResultBackoff, resCAUnavailable: audit.ResultCAUnavailable, resNoAccount: audit.ResultNoAccount,
		resCacheFailed: audit.ResultCacheFailed, resBusy: audit.ResultBusy, resClientLeft: audit.ResultClientLeft, resClosed: audit.ResultClosed,
	} {
		if names[r] != want {
			t.Errorf("result %d is called %q, want %q", r, names[r], want)
		}
	}
}
