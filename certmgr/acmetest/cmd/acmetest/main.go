// Acmetest runs the fake ACME CA of package acmetest as a server, for programs
// in any language:
//
//	go run github.com/nostall/nostall/certmgr/acmetest/cmd/acmetest@latest
//
// It prints the URL of its directory, and the file with its root, which is all
// that a client needs. A client in Python, for example, is then run with
//
//	REQUESTS_CA_BUNDLE=acmetest-root.pem certbot --server https://127.0.0.1:14000/directory ...
//
// Each name leads to 127.0.0.1, where http-01 is validated at port 5002 and
// tls-alpn-01 at port 5001, as with Pebble. TXT records for dns-01 come by
// dynamic updates (RFC 2136) to the server of -dns, or by the requests of
// -management, or are looked up at -dns-server.
//
// The server of -management understands the paths of pebble-challtestsrv for
// records: POST /set-txt, /clear-txt, /set-cname, /clear-cname, /add-a,
// /clear-a, /add-aaaa, /clear-aaaa and /set-default-ipv4. GET /roots/0 returns
// the root, and GET /log what the CA saw and did. POST /stop makes the CA refuse
// connections, until POST /restart.
//
// Each request to the CA is logged to standard error. SIGINT or SIGTERM end the
// program. All state but the root ends with it; with -root-key the root is the
// same the next time. The other flags are listed by -help.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/nostall/nostall/certmgr/acmetest"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "acmetest:", strings.TrimPrefix(err.Error(), "acmetest: "))
		os.Exit(1)
	}
}

// run serves until ctx ends.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	ca := acmetest.NewUnstartedServer()
	defer ca.Close()
	o, err := parse(ca, args, stderr)
	if err != nil {
		return err
	}
	// First the address: the files may be those of a CA that runs there.
	if ca.Listener, err = net.Listen("tcp", o.addr); err != nil {
		return err
	}
	defer func() { _ = ca.Listener.Close() }() // if the start fails
	if err := o.useRoot(ca); err != nil {
		return err
	}
	if err := try(ca.Start); err != nil {
		return err
	}
	o.resolve(ca, "*", o.target)
	fmt.Fprintln(stdout, "directory", ca.URL)
	fmt.Fprintln(stdout, "root", o.root)
	if o.dns.Addr != "" {
		o.dns.CA = ca
		if err := o.dns.Start(); err != nil {
			return err
		}
		defer o.dns.Close()
		fmt.Fprintln(stdout, "dns", o.dns.Addr)
	}
	failed := make(chan error, 1)
	if o.management != "" {
		ln, err := net.Listen("tcp", o.management)
		if err != nil {
			return err
		}
		server := &http.Server{Handler: o.manage(ca), ReadHeaderTimeout: 10 * time.Second}
		defer func() { _ = server.Close() }()
		go func() { failed <- server.Serve(ln) }()
		fmt.Fprintln(stdout, "management http://"+ln.Addr().String())
	}
	fmt.Fprintln(stdout, "ready")
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	fmt.Fprintf(stderr, "%d requests, %d certificates issued\n", ca.Count(acmetest.Any), len(ca.Issued()))
	return err
}

// try calls f. What the CA panics about are mistakes in what the user wrote.
func try(f func()) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("%v", v)
		}
	}()
	f()
	return nil
}
