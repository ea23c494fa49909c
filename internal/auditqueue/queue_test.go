package auditqueue

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr/audit"
)

func TestSlowHookLosesEventsAndSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var got []audit.Event
		q := &Queue{Now: time.Now, Hook: func() func(context.Context, audit.Event) {
			return func(_ context.Context, e audit.Event) { <-release; got = append(got, e) }
		}}
		for range maxQueued + 100 {
			q.Emit(audit.Event{Kind: audit.CertificateIssued})
		}
		close(release)
		if err := q.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		last := got[len(got)-1]
		if last.Kind != audit.EventsDropped || last.Count < 99 || len(got)+last.Count != maxQueued+101 {
			t.Errorf("%d events delivered, the last one is %v", len(got), last)
		}
	})
}
