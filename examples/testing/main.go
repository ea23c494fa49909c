// Testing is a small HTTPS server and its tests, as a user of certmgr would
// write them. The tests are the point: a real TLS client against a fake CA
// (certmgr/acmetest), an outage of the CA, a rate limit and a year of renewals.
//
//	go test -v ./examples/testing
//	go run ./examples/testing                          # a demonstration on loopback
//	go run ./examples/testing -hosts www.example.com   # the server, on port 443
//
// What makes the server easy to test is in this file: newSite takes all that
// differs between production and a test, the cache, the CA and the hook for
// events; serve takes its listener and ends with its context. Nothing in it
// knows of tests; the demonstration is in demo.go.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/audit"
)

func main() {
	addr := flag.String("https", ":443", "`address` to listen on")
	hosts := flag.String("hosts", "", "host names to serve, separated by commas; none: the demonstration")
	cache := flag.String("cache", "certs", "`directory` for certificates and the account key")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if *hosts == "" {
		err = demo(ctx)
	} else {
		err = run(ctx, *addr, config{hosts: strings.Split(*hosts, ","), cache: certmgr.DirCache(*cache)})
	}
	if err != nil {
		log.Fatal("testing: ", err)
	}
}

func run(ctx context.Context, addr string, c config) error {
	s, err := newSite(c)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	return s.serve(ctx, listener)
}

// config is what differs between production and a test.
type config struct {
	hosts []string
	cache certmgr.Cache
	ca    *acme.Client                       // nil: Let's Encrypt
	audit func(context.Context, audit.Event) // nil: failures are logged
}

// site is the server and where its certificates come from.
type site struct {
	certs  *certmgr.Manager
	server *http.Server
}

func newSite(c config) (*site, error) {
	hosts, err := certmgr.NewAllowlist(c.hosts...)
	if err != nil {
		return nil, err
	}
	certs := &certmgr.Manager{
		Prompt: certmgr.AcceptTOS,
		Hosts:  hosts,
		Cache:  c.cache,
		Client: c.ca,
		Audit:  c.audit,
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", hello)
	return &site{certs, &http.Server{
		Handler:           mux,
		TLSConfig:         certs.TLSConfig(),
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          certs.ErrorLog(nil),
	}}, nil
}

// serve runs the site until ctx ends or the listener fails. Then it ends what
// it began: requests, issuances, renewals.
func (s *site) serve(ctx context.Context, listener net.Listener) error {
	if err := s.certs.Start(ctx); err != nil {
		return errors.Join(err, listener.Close())
	}
	ended := make(chan error, 1)
	go func() { ended <- s.server.ServeTLS(listener, "", "") }()
	var failure error
	select {
	case failure = <-ended:
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	return errors.Join(failure, s.server.Shutdown(ctx), s.certs.Close())
}

func hello(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Strict-Transport-Security", "max-age=31536000")
	_, _ = fmt.Fprintf(w, "Hello from %s.\n", r.Host)
}
