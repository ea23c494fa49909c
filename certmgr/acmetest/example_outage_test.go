package acmetest_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"net/http"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
)

// An outage of the CA: existing certificates stay in service, and new hosts get
// an error that says why.
func Example_outage() {
	ca := acmetest.NewMemoryServer()
	defer ca.Close()
	manager := &certmgr.Manager{
		Prompt: certmgr.AcceptTOS,
		Hosts:  certmgr.MustAllowlist("old.example.com", "new.example.com"),
		Client: &acme.Client{DirectoryURL: ca.URL, HTTPClient: ca.Client()},
	}
	defer manager.Close()
	ca.Resolve("*.example.com", acmetest.Target{TLSConfig: manager.TLSConfig()})
	handshake := func(host string) error {
		_, err := manager.GetCertificate(&tls.ClientHelloInfo{ServerName: host})
		return err
	}
	fmt.Println("before, old:", handshake("old.example.com"))

	fault := ca.Status(acmetest.Match{}, http.StatusServiceUnavailable, http.Header{"Retry-After": {"3600"}},
		acmetest.Problem{Detail: "down for maintenance"})
	fmt.Println("outage, old:", handshake("old.example.com"))
	err := handshake("new.example.com")
	if reason, ok := errors.AsType[*acme.Error](err); ok {
		fmt.Println("outage, new:", reason.Detail)
	}
	requests := ca.Count(acmetest.Any)
	err = handshake("new.example.com")
	fmt.Println("and again, at once:", errors.Is(err, certmgr.ErrBackoff), ca.Count(acmetest.Any)-requests)

	fault.Lift()
	if err := manager.Obtain(context.Background(), "new.example.com"); err != nil { // or wait until it is due
		log.Fatal(err)
	}
	fmt.Println("after, new:", handshake("new.example.com"))
	// Output:
	// before, old: <nil>
	// outage, old: <nil>
	// outage, new: down for maintenance
	// and again, at once: true 0
	// after, new: <nil>
}
