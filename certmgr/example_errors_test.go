package certmgr_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
)

// Why a host has no certificate, and when the next attempt is due. Until then every
// handshake gets the same answer at once.
func ExampleIssuanceError() {
	ca := acmetest.NewMemoryServer()
	defer ca.Close()
	ca.FailValidation("www.example.com", "", acmetest.Problem{Type: "unauthorized", Detail: "wrong machine"})
	m := &certmgr.Manager{
		Prompt: certmgr.AcceptTOS,
		Hosts:  certmgr.MustAllowlist("www.example.com"),
		Client: &acme.Client{DirectoryURL: ca.URL, HTTPClient: ca.Client()},
	}
	defer m.Close()

	for range 2 {
		_, err := m.GetCertificate(&tls.ClientHelloInfo{ServerName: "www.example.com"})
		var failure *certmgr.IssuanceError
		if errors.As(err, &failure) {
			fmt.Println(failure.Host, "failed at stage", failure.Stage)
			fmt.Println("backing off:", errors.Is(err, certmgr.ErrBackoff), failure.RetryAt.After(time.Now()))
		}
		var problem *acme.Error // what the CA said
		if errors.As(err, &problem) {
			fmt.Println(problem.ProblemType, problem.Detail)
		}
	}
	// Output:
	// www.example.com failed at stage challenge
	// backing off: false true
	// urn:ietf:params:acme:error:unauthorized wrong machine
	// www.example.com failed at stage challenge
	// backing off: true true
	// urn:ietf:params:acme:error:unauthorized wrong machine
}
