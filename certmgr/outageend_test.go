package certmgr

import (
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/bundle"
)

// When the CA works again, nobody waits any more because of what it did before;
// but what the CA asked for, and what is the host's own fault, still counts.
func TestBackoffEndsWithAnOutageIfTheCAWasTheReason(t *testing.T) {
	now := time.Now().Round(0)
	hour, minute := now.Add(time.Hour), now.Add(time.Minute)
	for _, c := range []struct {
		name string
		rec  failure
		want time.Time
	}{
		{"the CA's", failure{blame: blame{ca: 3}}, now},
		{"the host's", failure{blame: blame{host: 3}}, hour},
		{"the CA's after the host's", failure{blame: blame{host: 1, ca: 1}}, now},
		{"with a Retry-After", failure{blame: blame{ca: 1}, asked: minute}, minute},
		{"a clock that is off", failure{blame: blame{ca: 1}, clockOff: true}, hour},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFailures()
			sub := newSubject(bundle.ECDSA, "ca", "www.example.com")
			rec := c.rec
			rec.err = newTestFailure(sub, audit.StageOrder, hour).err
			f.put(sub, &rec, now)
			f.release(now)
			if got := f.last(sub).err.RetryAt; !got.Equal(c.want) {
				t.Errorf("next attempt in %v, want in %v", got.Sub(now), c.want.Sub(now))
			}
		})
	}
}
