// Package routers tests routers whose own functions for certificates take an
// autocert.Manager: they are handlers, and so an http.Server serves them with
// the certificates of certmgr.
package routers

import (
	"io"
	"net/http"
	"testing"

	"github.com/labstack/echo/v4"
	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/cache"
)

// Instead of setting Echo.AutoTLSManager and calling Echo.StartAutoTLS, use Echo
// as the Handler of a server.
func TestEchoIsAHandler(t *testing.T) {
	ca := acmetest.NewServer()
	defer ca.Close()
	m := &certmgr.Manager{
		Prompt: certmgr.AcceptTOS,
		Cache:  new(cache.Memory),
		Hosts:  certmgr.MustAllowlist("www.example.com"),
		Client: &acme.Client{DirectoryURL: ca.URL, HTTPClient: ca.Client()},
	}
	defer m.Close()
	router := echo.New()
	router.GET("/", func(c echo.Context) error { return c.String(http.StatusOK, "Hello from "+c.Request().Host) })
	server := &http.Server{Handler: router, TLSConfig: m.TLSConfig()}

	ca.Resolve("www.example.com", acmetest.Target{TLSConfig: server.TLSConfig, HTTPSHandler: server.Handler})
	res, err := ca.Visitor().Get("https://www.example.com/")
	if err != nil {
		t.Fatalf("%v\n%v", err, ca)
	}
	defer res.Body.Close()
	if body, err := io.ReadAll(res.Body); err != nil || string(body) != "Hello from www.example.com" {
		t.Errorf("%s, %q, error %v", res.Status, body, err)
	}
}
