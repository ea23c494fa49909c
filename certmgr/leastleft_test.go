package certmgr_test

import (
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr"
)

// LeastLeft is that of the certificate that is nearest to its end by its own
// lifetime, which need not be the one that ends first.
func TestLeastLeftGoesByTheLifetime(t *testing.T) {
	now := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	valid := func(gone, left time.Duration) certmgr.HostStatus {
		return certmgr.HostStatus{State: certmgr.StateValid, NotBefore: now.Add(-gone), NotAfter: now.Add(left)}
	}
	unneeded := valid(99*day, day)
	unneeded.RenewalCause = certmgr.RenewalCauseUnneeded
	expired := valid(90*day, -day)
	expired.State = certmgr.StateExpired
	for name, tt := range map[string]struct {
		hosts []certmgr.HostStatus
		want  float64
	}{
		"none":                          {nil, 0},
		"none that is valid":            {[]certmgr.HostStatus{expired, {State: certmgr.StateIssuing}}, 0},
		"short and long":                {[]certmgr.HostStatus{valid(80*time.Hour, 80*time.Hour), valid(60*day, 30*day)}, 1. / 3},
		"one that is not to be renewed": {[]certmgr.HostStatus{unneeded, valid(3*day, day)}, .25},
		"not yet valid":                 {[]certmgr.HostStatus{valid(-day, 90*day)}, 1},
		"dates that are swapped":        {[]certmgr.HostStatus{valid(-5*day, 2*day)}, 1},
	} {
		snap := certmgr.Snapshot{Time: now, Hosts: tt.hosts}
		if got := snap.Counts().LeastLeft; got < tt.want-1e-9 || got > tt.want+1e-9 {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
	}
}
