package acmetest_test

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"log"
	"strings"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
)

// A CA that wants a certificate renewed at once, as before a mass revocation.
func ExampleServer_SetRenewalWindow() {
	ca := acmetest.NewMemoryServer()
	defer ca.Close()
	manager := &certmgr.Manager{
		Prompt: certmgr.AcceptTOS,
		Hosts:  certmgr.MustAllowlist("www.example.com"),
		Client: &acme.Client{DirectoryURL: ca.URL, HTTPClient: ca.Client()},
	}
	defer manager.Close()
	ca.Resolve("www.example.com", acmetest.Target{TLSConfig: manager.TLSConfig()})
	cert, err := manager.GetCertificate(&tls.ClientHelloInfo{ServerName: "www.example.com"})
	if err != nil {
		log.Fatal(err)
	}

	ca.SetRenewalWindow(cert.Leaf, acmetest.RenewalWindow{
		Start:          time.Now().Add(-2 * time.Hour),
		End:            time.Now().Add(-time.Hour),
		ExplanationURL: "https://ca.example.com/incident",
	})

	// What the client under test gets when it asks next.
	url := strings.TrimSuffix(ca.URL, "/directory") + "/renewal-info/" + acmetest.CertID(cert.Leaf)
	res, err := ca.Client().Get(url)
	if err != nil {
		log.Fatal(err)
	}
	defer res.Body.Close()
	var info struct {
		SuggestedWindow struct{ Start, End time.Time }
		ExplanationURL  string
	}
	if err := json.NewDecoder(res.Body).Decode(&info); err != nil {
		log.Fatal(err)
	}
	fmt.Println("renew now:", info.SuggestedWindow.End.Before(time.Now()))
	fmt.Println("because of:", info.ExplanationURL)
	fmt.Println("ask again in:", res.Header.Get("Retry-After"), "s")
	// Output:
	// renew now: true
	// because of: https://ca.example.com/incident
	// ask again in: 21600 s
}
