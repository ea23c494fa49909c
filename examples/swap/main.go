// Swap is an ordinary server on autocert, after its import line was changed: that line is the only one in this file
// that is about certmgr.
//
// On a machine of yours, as root or with the right to listen on these ports:
//
//	go run ./examples/swap -hosts www.example.com -cache /var/lib/certs
//
// Without -hosts it shows itself: see demo.go.
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
	"time"

	"golang.org/x/crypto/acme"

	autocert "github.com/nostall/nostall/certmgr" // was: "golang.org/x/crypto/acme/autocert"
)

func main() {
	hosts := flag.String("hosts", "", "comma-separated hosts to serve; none: a demonstration with a fake CA")
	cache := flag.String("cache", "certs", "cache directory; autocert's will do")
	directory := flag.String("directory", autocert.DefaultACMEDirectory, "URL of the CA's directory")
	https := flag.String("https", ":443", "address for HTTPS")
	plain := flag.String("http", ":80", "address for http-01 challenges and redirects")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if *hosts == "" {
		if err := demo(ctx); err != nil {
			log.Fatal(err)
		}
		return
	}
	m := &autocert.Manager{
		Prompt:     autocert.AcceptTOS,
		Cache:      autocert.DirCache(*cache),
		HostPolicy: autocert.HostWhitelist(strings.Split(*hosts, ",")...),
		Client:     &acme.Client{DirectoryURL: *directory},
	}
	tlsListener, err := net.Listen("tcp", *https)
	if err != nil {
		log.Fatal(err)
	}
	plainListener, err := net.Listen("tcp", *plain)
	if err != nil {
		log.Fatal(err)
	}
	if err := serve(ctx, m, tlsListener, plainListener); err != nil {
		log.Fatal(err)
	}
}

// serve serves both listeners until ctx ends, and lets the requests that are under way come to their end.
func serve(ctx context.Context, m *autocert.Manager, tlsListener, plainListener net.Listener) error {
	secure := &http.Server{
		TLSConfig: m.TLSConfig(),
		Handler:   http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "Hello from %s\n", r.Host) }),
	}
	plain := &http.Server{Handler: m.HTTPHandler(nil)}
	failed := make(chan error, 2)
	go func() { failed <- secure.ServeTLS(tlsListener, "", "") }()
	go func() { failed <- plain.Serve(plainListener) }()

	var err error
	select {
	case err = <-failed:
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	return errors.Join(err, secure.Shutdown(grace), plain.Shutdown(grace))
}
