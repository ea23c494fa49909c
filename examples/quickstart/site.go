package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
)

// demo is what survives the server's restart: the CA and the cache.
type demo struct {
	ca    *acmetest.Server
	cache certmgr.Cache
	site  *site
}

// site is one run of the server.
type site struct {
	manager *certmgr.Manager
	server  *http.Server
	addr    string
	results chan result // results of GetCertificate
}

// result is the result of GetCertificate for a handshake.
type result struct {
	took time.Duration
	err  error
}

// startServer starts the server with a new Manager, like a new process.
func (d *demo) startServer() error {
	m := &certmgr.Manager{
		Prompt: certmgr.AcceptTOS,
		Cache:  d.cache,
		Hosts:  certmgr.MustAllowlist(goodHost, movedHost),
		Audit:  audit.Log(slog.New(slog.DiscardHandler)), // the program prints the steps itself
		Client: &acme.Client{DirectoryURL: d.ca.URL, HTTPClient: d.ca.Client()},
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s := &site{manager: m, addr: listener.Addr().String(), results: make(chan result, 1)}
	config := m.TLSConfig()
	config.GetCertificate = s.getCertificate
	s.server = &http.Server{
		TLSConfig: config,
		ErrorLog:  m.ErrorLog(nil), // without the errors that are printed anyway
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = fmt.Fprintf(w, "hello from %s", r.TLS.ServerName)
		}),
	}
	go func() { _ = s.server.ServeTLS(listener, "", "") }()
	d.site = s
	d.ca.Resolve(goodHost, acmetest.Target{TLSAddr: s.addr})
	return nil
}

// getCertificate calls the Manager and records the result. The CA's validation
// calls it too.
func (s *site) getCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	start := time.Now()
	cert, err := s.manager.GetCertificate(hello)
	r := result{time.Since(start), err}
	if len(hello.SupportedProtos) != 1 || hello.SupportedProtos[0] != acme.ALPNProto {
		s.results <- r
	}
	return cert, err
}

func (d *demo) stopServer() error {
	if d.site == nil {
		return nil
	}
	s := d.site
	d.site = nil
	return errors.Join(s.server.Close(), s.manager.Close())
}

// visit is the result of a client's visit.
type visit struct {
	body           string
	err            error // the client's error, an alert
	cause          error // the server's error, from GetCertificate
	took           time.Duration
	getCertificate time.Duration
	requests       int // requests to the CA meanwhile
	state          *tls.ConnectionState
}

// visit requests https://host/ over a new connection.
func (d *demo) visit(host string) visit {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	transport := &http.Transport{
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{RootCAs: d.ca.Roots()},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, d.site.addr)
		},
	}
	var v visit
	before, start := d.ca.Count(acmetest.Any), time.Now()
	v.body, v.state, v.err = get(ctx, &http.Client{Transport: transport}, "https://"+host+"/")
	v.took = time.Since(start)
	select {
	case r := <-d.site.results:
		v.getCertificate, v.cause = r.took, r.err
	case <-ctx.Done():
		v.err = errors.Join(v.err, errors.New("the handshake did not reach GetCertificate"))
	}
	v.requests = d.ca.Count(acmetest.Any) - before
	return v
}

func get(ctx context.Context, client *http.Client, url string) (string, *tls.ConnectionState, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", nil, err
	}
	body, err := io.ReadAll(resp.Body)
	return string(body), resp.TLS, errors.Join(err, resp.Body.Close())
}
