package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/status"
)

// setup is what a server's process reads from standard input. The process exits
// at the end of the input.
type setup struct {
	Store     string // file
	Directory string // URL of the CA's directory
	Root      []byte // of the CA, in PEM
	Hosts     []string
}

// report is a line of its standard output. The first one has the addresses.
type report struct {
	Addr, Status string     // of the HTTPS server, and of the status page
	Kind         audit.Kind // of an event
	Host, Reason string
	Err          string
}

// runServer runs a server as a user's program would, and reports its events.
func runServer(name string) error {
	input := json.NewDecoder(os.Stdin)
	var s setup
	if err := input.Decode(&s); err != nil {
		return fmt.Errorf("read the setup: %w", err)
	}
	store, err := openStore(context.Background(), s.Store)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(s.Root)
	output := json.NewEncoder(os.Stdout)
	m := &certmgr.Manager{
		Prompt:  certmgr.AcceptTOS,
		Cache:   store, // what the servers have in common
		Lease:   lease,
		Machine: name,
		Hosts:   certmgr.MustAllowlist(s.Hosts...),
		Client: &acme.Client{
			DirectoryURL: s.Directory,
			HTTPClient:   &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}},
		},
		Audit: func(_ context.Context, e audit.Event) { // one at a time
			r := report{Kind: e.Kind, Host: e.Host, Reason: e.Reason}
			if e.Err != nil {
				r.Err = e.Err.Error()
			}
			_ = output.Encode(r)
		},
	}
	site := &http.Server{TLSConfig: m.TLSConfig(), ErrorLog: m.ErrorLog(nil), Handler: http.HandlerFunc(hello)}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	inside, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	if err := output.Encode(report{Addr: listener.Addr().String(), Status: inside.Addr().String()}); err != nil {
		return err
	}
	go func() { _ = site.ServeTLS(listener, "", "") }()
	go func() { _ = http.Serve(inside, status.Handler(m)) }()
	_, _ = io.Copy(io.Discard, os.Stdin)
	_ = site.Close()
	return m.Close()
}

func hello(w http.ResponseWriter, r *http.Request) { _, _ = fmt.Fprintf(w, "Hello from %s.\n", r.Host) }
