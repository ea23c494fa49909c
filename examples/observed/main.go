// Observed is an HTTPS server that shows what it does: events in the log and in
// a file, and a status page and metrics on an internal port.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/prommetrics"
	"github.com/nostall/nostall/certmgr/status"
)

var site = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintf(w, "Hello from %s.\n", r.Host)
})

func main() {
	ca := flag.String("ca", certmgr.LetsEncryptStagingURL, "`URL` of the CA's directory")
	cache := flag.String("cache", "certs", "`directory` for certificates and the account key")
	events := flag.String("events", "events.json", "`file` for events, one line of JSON each")
	httpAddr := flag.String("http", ":80", "`address` for challenges and redirects to HTTPS")
	httpsAddr := flag.String("https", ":443", "`address` of the site")
	internalAddr := flag.String("internal", "localhost:6060", "`address` of status page and metrics, not public")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	file, err := os.OpenFile(*events, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		log.Fatal(err)
	}
	m := &certmgr.Manager{
		Prompt: certmgr.AcceptTOS,
		Hosts:  certmgr.MustAllowlist("example.com", "www.example.com"), // your hosts
		Cache:  certmgr.DirCache(*cache),
		Client: &acme.Client{DirectoryURL: *ca},
		Audit:  audit.All(audit.Log(slog.Default()), audit.JSON(file)),
	}
	prometheus.MustRegister(prommetrics.NewCollector(m))
	internal := http.NewServeMux()
	internal.Handle("/debug/certs/", status.Handler(m))
	internal.Handle("/metrics", promhttp.Handler())

	err = serve(ctx, m,
		&http.Server{Addr: *httpAddr, Handler: m.HTTPHandler(nil)},
		&http.Server{Addr: *httpsAddr, Handler: site, TLSConfig: m.TLSConfig(), ErrorLog: m.ErrorLog(nil)},
		&http.Server{Addr: *internalAddr, Handler: internal},
	)
	if err := errors.Join(err, m.Close(), file.Close()); err != nil {
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
