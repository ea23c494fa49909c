package certmgr

import (
	"testing"
	"testing/synctest"

	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/preflight"
	"github.com/nostall/nostall/internal/acmeclient"
)

// A failed preflight says nothing about the CA, whatever was asked of it before.
func TestPreflightFailureIsNotTheCAs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := acmetest.NewMemoryServer()
		defer server.Close()
		trace := new(acmeclient.Trace)
		ctx := acmeclient.WithTrace(t.Context(), trace)
		ca := acmeclient.New(acmeclient.Config{DirectoryURL: server.URL, HTTPClient: server.Client()})
		if _, err := ca.Client(nil, "").Discover(ctx); err != nil || trace.Requests() == 0 {
			t.Fatal(err)
		}
		if what := troubleOf(trace, audit.StagePreflight, "a.example.com", &preflight.Error{Host: "a.example.com"}); what != troubleNone {
			t.Errorf("got %v", what)
		}
	})
}
