package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"

	"github.com/nostall/nostall/certmgr"
)

// setup is what a side's process reads from standard input. The process exits
// at the end of the input.
type setup struct {
	Directory string        // URL of the CA's directory
	Root      []byte        // certificate of the CA's listener, in DER
	Cache     string        // directory
	Every     time.Duration // time between samples
}

// sample is a line of its standard output. The first one contains only the
// server's address.
type sample struct {
	Addr        string    `json:",omitempty"`
	Time        time.Time `json:",omitzero"`
	InFlight    int       // handshakes in GetCertificate
	Goroutines  int
	Descriptors int // open files and sockets; -1 if unknown
}

// runChild runs one side: an ordinary server, and a goroutine that samples it.
func runChild(name string) error {
	input := json.NewDecoder(os.Stdin)
	var s setup
	if err := input.Decode(&s); err != nil {
		return fmt.Errorf("read the setup: %w", err)
	}
	m, err := s.manager(name)
	if err != nil {
		return err
	}
	var inFlight atomic.Int64
	server := &http.Server{
		TLSConfig: &tls.Config{
			NextProtos: []string{"h2", "http/1.1", acme.ALPNProto},
			GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
				inFlight.Add(1)
				defer inFlight.Add(-1)
				return m.getCertificate(hello)
			},
		},
		ErrorLog: m.errorLog,
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go func() { _ = server.ServeTLS(listener, "", "") }()

	output := json.NewEncoder(os.Stdout)
	if err := output.Encode(sample{Addr: listener.Addr().String()}); err != nil {
		return err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(io.Discard, os.Stdin)
	}()
	if err := count(output, s.Every, &inFlight, done); err != nil {
		return err
	}
	return errors.Join(m.close(), server.Close())
}

// manager is what a server uses of a side's Manager.
type manager struct {
	getCertificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	errorLog       *log.Logger // nil means the standard one
	close          func() error
}

// manager returns the side's Manager.
func (s setup) manager(name string) (manager, error) {
	root, err := x509.ParseCertificate(s.Root)
	if err != nil {
		return manager{}, err
	}
	pool := x509.NewCertPool()
	pool.AddCert(root)
	client := &acme.Client{
		DirectoryURL: s.Directory,
		HTTPClient:   &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}},
	}
	switch name {
	case "autocert":
		m := &autocert.Manager{
			Prompt: autocert.AcceptTOS, HostPolicy: autocert.HostWhitelist(host),
			Cache: autocert.DirCache(s.Cache), Client: client,
		}
		return manager{m.GetCertificate, nil, func() error { return nil }}, nil // it has neither
	case "certmgr":
		m := &certmgr.Manager{
			Prompt: certmgr.AcceptTOS, HostPolicy: certmgr.HostWhitelist(host),
			Cache: certmgr.DirCache(s.Cache), Client: client,
		}
		return manager{m.GetCertificate, m.ErrorLog(nil), m.Close}, nil
	}
	return manager{}, fmt.Errorf("no side is called %q", name)
}

// count writes samples until done.
func count(output *json.Encoder, every time.Duration, inFlight *atomic.Int64, done <-chan struct{}) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		s := sample{Time: time.Now(), InFlight: int(inFlight.Load()), Goroutines: runtime.NumGoroutine(), Descriptors: descriptors()}
		if err := output.Encode(s); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-done:
			return nil
		}
	}
}

// descriptors counts the open descriptors of this process, except for the one
// needed for counting.
func descriptors() int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return -1
	}
	return len(entries) - 1
}
