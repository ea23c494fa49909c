package soak

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	stdlog "log"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/audit"
)

// serverConfig is the configuration of a server. The strings TLS, HTTP and
// Control are addresses on loopback.
type serverConfig struct {
	Name               string
	TLS, HTTP, Control string
	Cache              string // directory
	Hosts              []string
	CA                 string // URL of the directory
	CACert             []byte // of the CA's own server, in DER
}

// host returns the i-th host of a server.
func host(server string, i int) string { return fmt.Sprintf("h%d.%s.test", i, server) }

// wildcard is on a server's list, but names below it lead nowhere.
func wildcard(server string) string { return "*.wild." + server + ".test" }

// vitals are what a server tells of itself.
type vitals struct {
	Uptime      time.Duration
	Goroutines  int
	Descriptors int    // -1 if they cannot be counted here
	Heap        uint64 // bytes in use after a collection
	Metrics     certmgr.Metrics
	Latencies   map[string]*latencies // of the hot path, by what strangers did meanwhile
}

// server is the process of a server.
type server struct {
	began time.Time
	m     *certmgr.Manager
	meter *meter
}

// serve runs a server until its standard input is closed, and then ends what it
// began: what is left is an error.
func serve(config string) error {
	var c serverConfig
	if err := json.Unmarshal([]byte(config), &c); err != nil {
		return err
	}
	before := runtime.NumGoroutine()
	cert, err := x509.ParseCertificate(c.CACert)
	if err != nil {
		return err
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: poolOf([]*x509.Certificate{cert})}}
	m := &certmgr.Manager{
		Prompt: certmgr.AcceptTOS,
		Cache:  certmgr.DirCache(c.Cache),
		Hosts:  certmgr.MustAllowlist(append(c.Hosts, wildcard(c.Name))...),
		HostPolicy: func(_ context.Context, host string) error {
			return fmt.Errorf("%q is not ours", host)
		},
		Client:      &acme.Client{DirectoryURL: c.CA, HTTPClient: &http.Client{Transport: transport}},
		Audit:       func(context.Context, audit.Event) {},
		StartPace:   -1,
		OrderBudget: -1,
		Backoff:     []time.Duration{time.Second, 5 * time.Second, 20 * time.Second},
	}
	s := &server{began: time.Now(), m: m, meter: newMeter(m)}
	end, err := s.listen(c)
	if err != nil {
		return err
	}
	if err := m.Start(context.Background()); err != nil {
		return err
	}
	io.Copy(io.Discard, os.Stdin)
	end()
	s.meter.end()
	if err := m.Close(); err != nil {
		return err
	}
	transport.CloseIdleConnections()
	return awaitGoroutines(before + 1) // that of connections which close
}

// listen opens the ports. The returned function closes them, and all their
// connections.
func (s *server) listen(c serverConfig) (end func(), err error) {
	control := http.NewServeMux()
	control.HandleFunc("/vitals", s.tellVitals)
	control.HandleFunc("/phase", func(_ http.ResponseWriter, r *http.Request) { s.meter.setPhase(r.FormValue("name")) })
	quiet := stdlog.New(io.Discard, "", 0)
	servers := map[string]*http.Server{
		c.TLS:     {Handler: http.NotFoundHandler(), TLSConfig: s.m.TLSConfig()},
		c.HTTP:    {Handler: s.m.HTTPHandler(nil)},
		c.Control: {Handler: control},
	}
	for address, srv := range servers {
		l, err := net.Listen("tcp", address)
		if err != nil {
			return nil, err
		}
		srv.ErrorLog, srv.ReadTimeout, srv.WriteTimeout, srv.IdleTimeout = quiet, 5*time.Second, 15*time.Second, 5*time.Second
		if srv.TLSConfig != nil {
			go srv.ServeTLS(l, "", "")
		} else {
			go srv.Serve(l)
		}
	}
	return func() {
		for _, srv := range servers {
			srv.Close()
		}
	}, nil
}

func (s *server) tellVitals(w http.ResponseWriter, _ *http.Request) {
	runtime.GC()
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	json.NewEncoder(w).Encode(vitals{
		Uptime:      time.Since(s.began),
		Goroutines:  runtime.NumGoroutine(),
		Descriptors: countDescriptors(),
		Heap:        mem.HeapAlloc,
		Metrics:     s.m.Metrics(),
		Latencies:   s.meter.all(),
	})
}

func countDescriptors() int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return -1
	}
	return len(entries)
}

// awaitGoroutines waits until at most n goroutines are left.
func awaitGoroutines(n int) error {
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for range 1_000 {
		if runtime.NumGoroutine() <= n {
			return nil
		}
		<-poll.C
	}
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	return fmt.Errorf("%d goroutines are left after Close, want %d at most:\n%s", runtime.NumGoroutine(), n, strings.TrimSpace(string(stacks)))
}
