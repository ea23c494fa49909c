package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/cache"
	"github.com/nostall/nostall/certmgr/preflight"
	"github.com/nostall/nostall/certmgr/prommetrics"
	"github.com/nostall/nostall/certmgr/status"
)

// site is the server as in production, except for its network.
type site struct {
	world   *world
	manager *certmgr.Manager
	server  *http.Server
	addr    string
	admin   *http.Server // status page and metrics, on an internal port
	url     string       // URL of admin
	text    *recorder    // the log
	json    *recorder    // the audit trail
}

func (w *world) startSite() (*site, error) {
	s := &site{world: w, text: newRecorder(), json: newRecorder()}
	s.manager = &certmgr.Manager{
		Prompt: certmgr.AcceptTOS,
		Hosts:  certmgr.MustAllowlist(goodHost, movedHost),
		Cache:  new(cache.Memory), // the deployment has cleared it
		Client: &acme.Client{DirectoryURL: w.ca.URL, HTTPClient: w.ca.Client()},
		Audit: audit.All(
			audit.Log(slog.New(slog.NewTextHandler(s.text, nil))),
			audit.JSON(s.json),
		),
		// Enforce would save the order at the CA. Report shows that the CA
		// agrees.
		Preflight:         preflight.Report,
		PreflightResolver: w,
		PreflightDial:     w.dial,
	}
	if err := errors.Join(s.listen(), s.listenAdmin()); err != nil {
		_ = s.close()
		return nil, err
	}
	w.leadHere(s.addr)
	return s, nil
}

// listen starts the public server.
func (s *site) listen() error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s.addr = listener.Addr().String()
	s.server = &http.Server{
		TLSConfig: s.manager.TLSConfig(),
		ErrorLog:  s.manager.ErrorLog(log.New(s.text, "", 0)), // no line for each refused handshake
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = fmt.Fprintf(w, "hello from %s", r.TLS.ServerName)
		}),
	}
	go func() { _ = s.server.ServeTLS(listener, "", "") }()
	return nil
}

// listenAdmin starts the operators' server.
func (s *site) listenAdmin() error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(prommetrics.NewCollector(s.manager))
	mux := http.NewServeMux()
	mux.Handle("/certs/", status.Handler(s.manager))
	mux.Handle("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	s.url = "http://" + listener.Addr().String()
	s.admin = &http.Server{Handler: mux}
	go func() { _ = s.admin.Serve(listener) }()
	return nil
}

// close closes the site. It may be called more than once.
func (s *site) close() error {
	for _, server := range []*http.Server{s.server, s.admin} {
		if server != nil {
			_ = server.Close()
		}
	}
	return s.manager.Close()
}

// get fetches a page of the operators' server.
func (s *site) get(ctx context.Context, path string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+path, nil)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	body, err := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusOK {
		err = errors.Join(err, fmt.Errorf("%s: %s: %s", path, resp.Status, body))
	}
	return string(body), errors.Join(err, resp.Body.Close())
}

// sample is a line of the Prometheus exposition format.
type sample struct{ series, value string }

// scrape returns the metrics as Prometheus reads them.
func (s *site) scrape(ctx context.Context) ([]sample, error) {
	body, err := s.get(ctx, "/metrics")
	var samples []sample
	for line := range strings.Lines(body) {
		line = strings.TrimSpace(line)
		if i := strings.LastIndexByte(line, ' '); i > 0 && line[0] != '#' {
			samples = append(samples, sample{line[:i], line[i+1:]})
		}
	}
	return samples, err
}
