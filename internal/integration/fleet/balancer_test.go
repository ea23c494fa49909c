package fleet

import (
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"
)

// balancer passes connections on to the machines in turn, as a load balancer
// with health checks does: not to those that refuse them or are marked as down.
type balancer struct {
	listener net.Listener

	mu       sync.Mutex
	backends []*backend
	next     int
	chosen   map[string]choice // by the client's address
}

// choice is the machine of a connection, and how often that had been out of
// service then.
type choice struct {
	*backend
	outages int
}

// backend is a port of a machine.
type backend struct {
	addr    net.Addr
	down    bool
	outages int
	conns   map[net.Conn]bool // to it
}

// startBalancer starts a load balancer without machines.
func startBalancer(t *testing.T) *balancer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &balancer{listener: l, chosen: make(map[string]choice)}
	var open sync.WaitGroup
	open.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			open.Go(func() { b.pass(conn) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		for _, addr := range b.addrs() {
			b.mark(addr, true)
		}
		open.Wait()
	})
	return b
}

// addr is where the load balancer listens.
func (b *balancer) addr() net.Addr { return b.listener.Addr() }

// addrs returns the addresses of the machines.
func (b *balancer) addrs() (addrs []net.Addr) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, m := range b.backends {
		addrs = append(addrs, m.addr)
	}
	return addrs
}

// add adds a machine.
func (b *balancer) add(addr net.Addr) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.backends = append(b.backends, &backend{addr: addr, conns: make(map[net.Conn]bool)})
}

// mark takes a machine out of service, with its connections, or back into it.
func (b *balancer) mark(addr net.Addr, down bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, m := range b.backends {
		if m.addr == addr {
			m.down = down
			m.outages++
			for conn := range m.conns {
				conn.Close()
			}
		}
	}
}

// wasDown reports whether the connection from a client's address is lost because
// its machine was taken out of service.
func (b *balancer) wasDown(client net.Addr) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	c, ok := b.chosen[client.String()]
	return ok && c.outages != c.backend.outages
}

// pass connects a client to a machine, until one of them closes the connection.
func (b *balancer) pass(client net.Conn) {
	defer client.Close()
	m, server := b.connect(client)
	if server == nil {
		return
	}
	defer func() {
		server.Close()
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(m.conns, server)
	}()
	go func() {
		io.Copy(server, client)
		server.(*net.TCPConn).CloseWrite()
	}()
	io.Copy(client, server)
}

// connect connects to the next machine that accepts.
func (b *balancer) connect(client net.Conn) (*backend, net.Conn) {
	b.mu.Lock()
	order := slices.Concat(b.backends[b.next:], b.backends[:b.next])
	b.next = (b.next + 1) % len(b.backends)
	b.mu.Unlock()
	for _, m := range order {
		if b.isDown(m) {
			continue
		}
		server, err := net.DialTimeout("tcp", m.addr.String(), 5*time.Second)
		if err != nil {
			continue
		}
		if err := b.begin(m, client, server); err == nil {
			return m, server
		}
		server.Close()
	}
	return nil, nil
}

func (b *balancer) isDown(m *backend) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return m.down
}

// begin records a connection, unless its machine is down by now.
func (b *balancer) begin(m *backend, client, server net.Conn) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if m.down {
		return errors.New("down")
	}
	m.conns[server] = true
	b.chosen[client.RemoteAddr().String()] = choice{m, m.outages}
	return nil
}
