package certmgr_test

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"os"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/cache"
)

// Hooks for events: one that writes all of them to a log, and one of your own.
func Example_audit() {
	ca := acmetest.NewMemoryServer()
	defer ca.Close()
	logger := slog.New(slog.NewJSONHandler(os.Stderr, nil))
	m := &certmgr.Manager{
		Prompt: certmgr.AcceptTOS,
		Cache:  new(cache.Memory), // a real server needs one that lasts
		Hosts:  certmgr.MustAllowlist("www.example.com"),
		Client: &acme.Client{DirectoryURL: ca.URL, HTTPClient: ca.Client()},
		Audit: audit.All(audit.Log(logger), func(_ context.Context, e audit.Event) {
			switch {
			case e.IsFailure():
				fmt.Println("call somebody:", e)
			case e.Kind == audit.CertificateIssued:
				fmt.Println(e.Host, "has a new certificate")
			}
		}),
	}
	ca.Resolve("www.example.com", acmetest.Target{TLSConfig: m.TLSConfig()})
	if err := m.Obtain(context.Background(), "www.example.com"); err != nil {
		log.Fatal(err)
	}
	m.Close() // after all events have been told of
	// Output: www.example.com has a new certificate
}
