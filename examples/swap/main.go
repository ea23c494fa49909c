// Swap is a small real server that was written for autocert. One line was
// changed: the import below, which used to be
// "golang.org/x/crypto/acme/autocert". Manager, HostWhitelist, DirCache and
// AcceptTOS are unchanged, and so are the files in the cache.
//
//	go run ./examples/swap                      # a demonstration on loopback
//	go run ./examples/swap -hosts example.com   # a server on ports 80 and 443
//
// Without -hosts it serves demo.example.com on free loopback ports with
// certificates of a fake CA, makes one request, prints what happened and ends.
// With -directory a server uses another CA than Let's Encrypt; if that has a
// private root, name its file in SSL_CERT_FILE.
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

	autocert "github.com/nostall/nostall/certmgr" // the changed line
)

func main() {
	httpAddr := flag.String("http", ":80", "`address` for http-01 challenges and redirects to HTTPS")
	httpsAddr := flag.String("https", ":443", "`address` of the HTTPS server")
	directory := flag.String("directory", autocert.DefaultACMEDirectory, "`URL` of the CA's directory")
	hosts := flag.String("hosts", "", "host names to serve, separated by commas; none: the demonstration")
	cache := flag.String("cache", "certs", "`directory` for certificates and the account key")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if *hosts == "" {
		err = demo(ctx)
	} else {
		m := newManager(strings.Split(*hosts, ","), *cache, &acme.Client{DirectoryURL: *directory})
		err = listenAndServe(ctx, m, *httpAddr, *httpsAddr)
	}
	if err != nil {
		log.Fatal("swap: ", err)
	}
}

// newManager is the program's code for autocert, unchanged.
func newManager(hosts []string, cache string, client *acme.Client) *autocert.Manager {
	return &autocert.Manager{
		Prompt:     autocert.AcceptTOS,
		HostPolicy: autocert.HostWhitelist(hosts...),
		Cache:      autocert.DirCache(cache),
		Client:     client,
	}
}

// replace returns a Manager that takes the place of another one, for example
// because the hosts have changed. The old one is closed before: it would go on
// renewing, and writing to the cache that both use.
func replace(old *autocert.Manager, hosts []string, cache string, client *acme.Client) (*autocert.Manager, error) {
	if err := old.Close(); err != nil {
		return nil, err
	}
	return newManager(hosts, cache, client), nil
}

func listenAndServe(ctx context.Context, m *autocert.Manager, httpAddr, httpsAddr string) error {
	plain, err := net.Listen("tcp", httpAddr)
	if err != nil {
		return err
	}
	secure, err := net.Listen("tcp", httpsAddr)
	if err != nil {
		_ = plain.Close()
		return err
	}
	log.Printf("serving on %s and %s", plain.Addr(), secure.Addr())
	return serve(ctx, m, plain, secure)
}

// serve runs both servers until ctx ends or one of them fails, and shuts them
// down in order.
func serve(ctx context.Context, m *autocert.Manager, plain, secure net.Listener) error {
	redirects := &http.Server{Handler: m.HTTPHandler(nil), ReadHeaderTimeout: 10 * time.Second}
	site := &http.Server{
		Handler:           http.HandlerFunc(hello),
		TLSConfig:         m.TLSConfig(),
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          m.ErrorLog(nil), // new: no line for each refused visitor
	}
	ended := make(chan error, 2)
	go func() { ended <- redirects.Serve(plain) }()
	go func() { ended <- site.ServeTLS(secure, "", "") }()

	var failure error
	select {
	case failure = <-ended:
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	// Close is new: it ends issuances and renewals. A program that never calls
	// it works as before.
	return errors.Join(failure, site.Shutdown(ctx), redirects.Shutdown(ctx), m.Close())
}

func hello(w http.ResponseWriter, r *http.Request) {
	_, _ = fmt.Fprintf(w, "Hello from %s over HTTPS.\n", r.Host)
}
