// Server answers over HTTPS, with certificates that it obtains by itself. It
// ends on SIGTERM.
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
	"syscall"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
)

// newManager has what differs between production and a test as parameters.
func newManager(cache certmgr.Cache, ca *acme.Client) *certmgr.Manager {
	return &certmgr.Manager{
		Prompt: certmgr.AcceptTOS,
		Hosts:  certmgr.MustAllowlist("example.com", "www.example.com"), // your hosts
		Email:  "",                                                      // your address, for the CA
		Cache:  cache,
		Client: ca,
	}
}

var site = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintf(w, "Hello from %s.\n", r.Host)
})

func main() {
	ca := flag.String("ca", certmgr.LetsEncryptStagingURL, "`URL` of the CA's directory")
	cache := flag.String("cache", "certs", "`directory` for certificates and the account key")
	httpAddr := flag.String("http", ":80", "`address` for challenges and redirects to HTTPS")
	httpsAddr := flag.String("https", ":443", "`address` of the site")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	m := newManager(certmgr.DirCache(*cache), &acme.Client{DirectoryURL: *ca})
	err := serve(ctx, m,
		&http.Server{Addr: *httpAddr, Handler: m.HTTPHandler(nil)},
		&http.Server{Addr: *httpsAddr, Handler: site, TLSConfig: m.TLSConfig(), ErrorLog: m.ErrorLog(nil)},
	)
	if err := errors.Join(err, m.Close()); err != nil {
		log.Fatal(err)
	}
}

// serve runs the servers until ctx ends or one of them fails, and then shuts
// down all of them.
func serve(ctx context.Context, m *certmgr.Manager, servers ...*http.Server) error {
	failed := make(chan error, len(servers))
	for _, s := range servers {
		listener, err := net.Listen("tcp", s.Addr)
		if err != nil {
			return err
		}
		log.Print("listening on ", listener.Addr())
		s.ReadHeaderTimeout = 10 * time.Second
		go func() {
			if s.TLSConfig == nil {
				failed <- s.Serve(listener)
			} else {
				failed <- s.ServeTLS(listener, "", "")
			}
		}()
	}
	err := m.Start(ctx) // obtains certificates for all hosts before their first visitors
	if err == nil {
		select {
		case err = <-failed:
		case <-ctx.Done():
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for _, s := range servers {
		err = errors.Join(err, s.Shutdown(ctx))
	}
	return err
}
