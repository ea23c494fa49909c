package main

import (
	"net/http"
	"testing"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/cache"
)

func TestSite(t *testing.T) {
	ca := acmetest.NewServer()
	defer ca.Close()
	m := newManager(new(cache.Memory), &acme.Client{DirectoryURL: ca.URL, HTTPClient: ca.Client()})
	defer m.Close()
	ca.Resolve("example.com", acmetest.Target{TLSConfig: m.TLSConfig(), HTTPSHandler: site})
	res, err := ca.Visitor().Get("https://example.com/")
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%v, error %v\n%v", res, err, ca)
	}
	res.Body.Close()
}
