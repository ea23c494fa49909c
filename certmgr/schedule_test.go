package certmgr

import (
	"testing"
	"time"

	"github.com/nostall/nostall/internal/bundle"
)

// A worker that made no new appointment, whatever went wrong, is looked after:
// nothing is forgotten.
func TestWhatAWorkerForgetsIsDueAgain(t *testing.T) {
	inside(t, func(t *testing.T, w *insides) {
		used := w.m.engine.operator.schedule
		r := newSchedule(used.env, used.memory, used.progress, used.startPace) // which no dispatcher empties
		sub := newSubject(bundle.ECDSA, r.dir, "a.example.com")
		r.first(sub)
		take := func() bool { // the work of one that does nothing
			var of agendaKind
			var taken *renewalItem
			r.due(r.now(), func(kind agendaKind, it *renewalItem) bool {
				of, taken = kind, it
				return true
			})
			if taken != nil {
				r.done(of, taken)
			}
			return taken != nil
		}
		if !take() {
			t.Fatal("nothing is due")
		}
		if take() {
			t.Error("it is due again at once")
		}
		time.Sleep(retryRenewal)
		if !take() {
			t.Error("it is forgotten")
		}
		r.drop(sub)
		time.Sleep(retryRenewal)
		if take() {
			t.Error("it is due although it was dropped")
		}
	})
}
