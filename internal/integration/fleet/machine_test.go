package fleet

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/audit"
)

// machineConfig is the role of a machine.
type machineConfig struct {
	Name  string
	Store storeConfig
	CA    Root
	Lease time.Duration
	Hosts []string // that Start issues for; others below newHosts come with their first visitor
}

// newHosts is the end of the names that all machines allow.
const newHosts = ".new.test"

// Machine is what the test can ask of a machine's process.
type Machine struct {
	manager *certmgr.Manager
	gate    *gate

	mu     sync.Mutex
	events []string
}

// serve runs a server as a user's program would, on the first inherited
// listener, with redirects on the second and its control on the third.
func (c *machineConfig) serve() (end func() error, err error) {
	store, err := c.Store.open()
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(c.CA.PEM)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	machine := &Machine{gate: newGate(store)}
	machine.manager = &certmgr.Manager{
		Prompt:  certmgr.AcceptTOS,
		Cache:   machine.gate,
		Lease:   c.Lease,
		Machine: c.Name,
		Hosts:   certmgr.MustAllowlist(c.Hosts...),
		HostPolicy: func(_ context.Context, host string) error {
			if !strings.HasSuffix(host, newHosts) {
				return fmt.Errorf("%q is not ours", host)
			}
			return nil
		},
		Client:    &acme.Client{DirectoryURL: c.CA.URL, HTTPClient: &http.Client{Transport: transport}, UserAgent: c.Name},
		Audit:     machine.event,
		StartPace: -1,
		// The network's failures are short here, and what is measured is the lease.
		Backoff: []time.Duration{time.Second, time.Second, 2 * time.Second},
	}
	var listeners [3]net.Listener
	for i := range listeners {
		if listeners[i], err = inherited(i); err != nil {
			return nil, err
		}
	}
	quiet := log.New(io.Discard, "", 0)
	site := &http.Server{Handler: http.NotFoundHandler(), TLSConfig: machine.manager.TLSConfig(), ErrorLog: quiet}
	plain := &http.Server{Handler: machine.manager.HTTPHandler(nil), ErrorLog: quiet}
	go site.ServeTLS(listeners[0], "", "")
	go plain.Serve(listeners[1])
	if err := machine.manager.Start(context.Background()); err != nil {
		return nil, err
	}
	end = func() error { return errors.Join(site.Close(), plain.Close(), machine.manager.Close()) }
	return end, control(listeners[2], "Machine", machine)
}

// maxEvents is how many events are kept for a failed test.
const maxEvents = 2000

// event keeps an event, and writes it to the process's output.
func (m *Machine) event(_ context.Context, e audit.Event) {
	fmt.Fprintln(os.Stderr, e)
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.events) < maxEvents {
		m.events = append(m.events, e.String())
	}
}

// Events returns the events about a host.
func (m *Machine) Events(host string, reply *[]string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range m.events {
		if strings.Contains(e, host) {
			*reply = append(*reply, e)
		}
	}
	return nil
}

// Host is the state of a host.
type Host struct{ State, Failure string }

// Hosts returns the state of each host that the machine knows.
func (m *Machine) Hosts(_ struct{}, reply *map[string]Host) error {
	*reply = make(map[string]Host)
	for _, h := range m.manager.Snapshot().Hosts {
		(*reply)[h.Host] = Host{State: string(h.State), Failure: fmt.Sprint(h.Cause())}
	}
	return nil
}

// Renew renews the certificate of a host now.
func (m *Machine) Renew(host string, _ *struct{}) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return m.manager.Renew(ctx, host)
}

// HoldStore holds up the first write of the certificate of a host.
func (m *Machine) HoldStore(host string, _ *struct{}) error { m.gate.hold(host); return nil }

// AwaitStore waits until it is held up.
func (m *Machine) AwaitStore(host string, _ *struct{}) error { return m.gate.await(host) }

// ReleaseStore lets all that is held up go on.
func (m *Machine) ReleaseStore(struct{}, *struct{}) error { m.gate.release(); return nil }

// theMachine is the test's side of a machine.
type theMachine struct{ *child }

// startMachine starts a machine.
func startMachine(t *testing.T, c machineConfig) *theMachine {
	t.Helper()
	return &theMachine{startChild(t, c.Name, role{Machine: &c}, 2)}
}

// tls and http are the addresses of its ports.
func (m *theMachine) tls() net.Addr  { return m.addrs[0] }
func (m *theMachine) http() net.Addr { return m.addrs[1] }

// about returns what a machine knows about a host, for a failed test.
func (m *theMachine) about(host string) string {
	var events []string
	hosts := make(map[string]Host)
	if err := errors.Join(m.try("Events", host, &events), m.try("Hosts", struct{}{}, &hosts)); err != nil {
		return err.Error()
	}
	lines := []string{fmt.Sprintf("%s: %s is %+v", m.name, host, hosts[host])}
	return strings.Join(slices.Concat(lines, events), "\n\t")
}
