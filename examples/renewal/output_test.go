package main

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/examples/internal/columnstest"
)

// A year takes too long for a test; its events are of all kinds here, with long
// texts.
func TestOutputFitsATerminal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		d := &diary{out: &out}
		d.chapter(login + " comes back, and the operator calls Obtain instead of waiting for the next attempt.")
		for _, kind := range audit.Kinds() {
			for range often + 2 {
				d.event(t.Context(), audit.Event{
					Time:           time.Now(),
					Kind:           kind,
					Host:           login,
					Count:          1,
					Reason:         "the CA suggests 2000-04-10T00:00:00Z instead of 2000-05-14T03:12:00Z, which is over",
					ExplanationURL: "https://ca.example/" + strings.Repeat("incidents/", 12),
					RetryAt:        time.Now().Add(17 * time.Hour),
					NotAfter:       time.Now().Add(90 * day),
					Err:            errors.New(strings.Repeat("a cause of a failure: ", 20)),
				})
			}
		}
		d.chapter("The year is over.")
		columnstest.Check(t, out.String())
		if n := strings.Count(out.String(), "\n"); n < 60 {
			t.Errorf("only %d lines were printed:\n%s", n, out.String())
		}
	})
}
