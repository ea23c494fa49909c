package certmgr

import (
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/bundle"
)

// An extra attempt that gets no slot in time is still to come, and to be recorded.
func TestExtraAttemptWithoutASlotIsKept(t *testing.T) {
	inside(t, func(t *testing.T, w *insides) {
		is := w.m.engine.operator.issuer
		now := is.now()
		sub := newSubject(bundle.ECDSA, is.dir, "a.example.com")
		end := now.Add(24 * time.Hour)
		rec := newTestFailure(sub, audit.StageChallenge, end).withExtra(whyRestarted, maxExtra, now)
		is.health.remember(sub, rec)
		i := newIssuance(issueRequest{sub: sub, grant: grant{trust: listed}}, now)
		if err := is.notBegun(t.Context(), i, &refusal{kind: ErrBusy}); err == nil {
			t.Fatal("no error")
		}
		last := is.health.failures.last(sub)
		if last.extra.why != whyRestarted || last.err.Stage != audit.StageChallenge || !last.end().Equal(end) || last.err.RetryAt.Sub(now) > 2*time.Minute || !last.err.RetryAt.After(now) {
			t.Errorf("the failure is now %+v, %+v", last.extra, last.err)
		}
		after, err := is.health.spend(t.Context(), sub, last)
		if err != nil || len(after.extra.spent) != 1 || !after.err.RetryAt.Equal(end) {
			t.Errorf("after the attempt began: %+v, %v", after.extra, err)
		}
	})
}
