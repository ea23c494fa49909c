package fleet

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// caConfig is the role of the CA.
type caConfig struct {
	TLS, HTTP string // addresses of the load balancer, to which all names lead
}

// CA is what the test can ask of the CA's process.
type CA struct {
	server *acmetest.Server

	mu    sync.Mutex
	holds map[Hold]*heldUp
}

// Hold is a stage of the issuance for a host, of which the CA holds up the first
// request. The test asks for it before, and then waits until it has come.
type Hold struct {
	Stage stage
	Host  string
}

// heldUp is what is behind a Hold.
type heldUp struct {
	fault    *acmetest.Fault
	reached  chan struct{} // closed when a reply is held up; nil for faults that count by themselves
	released chan struct{} // closed to send it
}

// Log is what the CA saw and did.
type Log struct {
	Accounts int
	Requests []acmetest.Request
	Orders   []Order
	Newest   map[string]string // serial numbers of the certificates that were issued last, by host
	Text     string            // for humans
}

// Order is an order that was placed.
type Order struct {
	Host, Status string
	Serial       string // of the certificate, or empty
}

// finalized reports whether the CA has accepted a request to finalize the order.
func (o Order) finalized() bool { return o.Status == "processing" || o.Serial != "" }

// finalized returns the orders for a host that reached finalize.
func (l *Log) finalized(host string) (orders []Order) {
	for _, o := range l.Orders {
		if o.Host == host && o.finalized() {
			orders = append(orders, o)
		}
	}
	return orders
}

// firstOf returns when another machine than the holder first asked for something
// about a host after a time, or zero.
func (l *Log) firstOf(host, holder string, after time.Time) time.Time {
	for _, r := range l.Requests {
		if r.Host == host && !strings.HasPrefix(r.UserAgent, holder) && r.Endpoint != acmetest.RenewalInfo && r.Time.After(after) {
			return r.Time
		}
	}
	return time.Time{}
}

// from returns the requests that a machine made about a host after a time, but
// for renewal information.
func (l *Log) from(host, machine string, after time.Time) (requests []acmetest.Request) {
	for _, r := range l.Requests {
		if r.Host == host && strings.HasPrefix(r.UserAgent, machine) && r.Endpoint != acmetest.RenewalInfo && r.Time.After(after) {
			requests = append(requests, r)
		}
	}
	return requests
}

// serve runs the CA on the first inherited listener, and its control on the
// second.
func (c *caConfig) serve() (end func() error, err error) {
	server := acmetest.NewUnstartedServer()
	if server.Listener, err = inherited(0); err != nil {
		return nil, err
	}
	l, err := inherited(1)
	if err != nil {
		return nil, err
	}
	server.Start()
	server.Resolve("*", acmetest.Target{TLSAddr: c.TLS, HTTPAddr: c.HTTP})
	return func() error { server.Close(); return nil }, control(l, "CA", &CA{server: server, holds: make(map[Hold]*heldUp)})
}

// Root returns the URL of the directory, and the root in PEM.
func (ca *CA) Root(_ struct{}, reply *Root) error {
	*reply = Root{ca.server.URL, ca.server.RootPEM()}
	return nil
}

// Root is what clients of the CA need to know.
type Root struct {
	URL string
	PEM []byte
}

// Hold holds up the first request, or reply, of a stage.
func (ca *CA) Hold(h Hold, _ *struct{}) error {
	held := &heldUp{released: make(chan struct{})}
	match := acmetest.Match{Host: h.Host, Count: 1}
	reply := func(e acmetest.Endpoint) {
		match.Endpoint, held.reached = e, make(chan struct{})
		held.fault = ca.server.Edit(match, func(r *acmetest.Reply) {
			close(held.reached)
			select {
			case <-held.released:
			case <-r.Context().Done():
			}
		})
	}
	request := func(e acmetest.Endpoint) {
		match.Endpoint = e
		held.fault = ca.server.Stall(match)
	}
	switch h.Stage {
	case atAccount:
		match.Host = ""
		request(acmetest.NewAccount)
	case atOrder:
		request(acmetest.NewOrder)
	case atOrderPlaced:
		reply(acmetest.NewOrder)
	case atAuthorization:
		request(acmetest.Authorization)
	case atChallenge:
		request(acmetest.Challenge)
	case atValidation:
		held.fault = ca.server.SlowValidation(h.Host, time.Hour, acmetest.Times(1))
	case atFinalize:
		request(acmetest.Finalize)
	case atFinalized:
		reply(acmetest.Finalize)
	case atCertificate:
		request(acmetest.Certificate)
	default:
		return fmt.Errorf("the CA cannot hold up %q", h.Stage)
	}
	ca.mu.Lock()
	defer ca.mu.Unlock()
	ca.holds[h] = held
	return nil
}

// Await waits until a request is held up.
func (ca *CA) Await(h Hold, _ *struct{}) error {
	ca.mu.Lock()
	held := ca.holds[h]
	ca.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if held.reached == nil {
		return ca.server.WaitUntil(ctx, string(h.Stage), func() bool { return held.fault.Acted() > 0 })
	}
	select {
	case <-held.reached:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("no reply to %q for %s", h.Stage, h.Host)
	}
}

// Release ends all that is held up.
func (ca *CA) Release(struct{}, *struct{}) error {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	for _, held := range ca.holds {
		close(held.released)
		held.fault.Lift()
	}
	clear(ca.holds)
	return nil
}

// Log returns what the CA saw and did.
func (ca *CA) Log(_ struct{}, reply *Log) error {
	*reply = Log{
		Accounts: len(ca.server.Accounts()),
		Requests: ca.server.Requests(),
		Newest:   make(map[string]string),
		Text:     ca.server.String(),
	}
	for _, leaf := range ca.server.Issued() { // oldest first
		reply.Newest[leaf.DNSNames[0]] = serialOf(leaf)
	}
	for _, o := range ca.server.Orders() {
		order := Order{Host: o.Hosts[0], Status: o.Status}
		if o.Certificate != nil {
			order.Serial = serialOf(o.Certificate)
		}
		reply.Orders = append(reply.Orders, order)
	}
	return nil
}

func serialOf(leaf *x509.Certificate) string { return hex.EncodeToString(leaf.SerialNumber.Bytes()) }

// theCA is the test's side of the CA.
type theCA struct {
	*child
	root Root
}

// startCA starts the CA. All names lead to the load balancer.
func startCA(t *testing.T, tls, http net.Addr) *theCA {
	t.Helper()
	ca := &theCA{child: startChild(t, "CA", role{CA: &caConfig{TLS: tls.String(), HTTP: http.String()}}, 1)}
	ca.call(t, "Root", struct{}{}, &ca.root)
	return ca
}

// log returns what the CA saw and did.
func (ca *theCA) log(t *testing.T) *Log {
	t.Helper()
	l := new(Log)
	ca.call(t, "Log", struct{}{}, l)
	return l
}
