package servertest

import (
	"net"
	"sync"
	"testing"
	"time"
)

// A Proxy forwards TCP connections to a server, and fails as networks do. It ends
// with its test. Methods may be called concurrently.
//
// Give each client a Proxy of its own to part one of them from the server.
type Proxy struct {
	target   string
	listener net.Listener
	tasks    sync.WaitGroup // its goroutines

	mu     sync.Mutex // protects what follows
	conns  map[net.Conn]bool
	cut    bool
	closed bool
	delay  time.Duration
	open   chan struct{} // closed unless nothing gets through
}

// StartProxy starts a proxy on a free port of loopback.
func StartProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{target: target, listener: listener, conns: make(map[net.Conn]bool), open: make(chan struct{})}
	close(p.open)
	p.tasks.Go(p.serve)
	t.Cleanup(p.close)
	return p
}

// Addr returns the proxy's address, as "127.0.0.1:port".
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Blackhole keeps what either side sends, the end of a connection included, until
// Heal, as a firewall does that drops packets. New connections are accepted, as
// far as the client can see, and nothing answers.
func (p *Proxy) Blackhole() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.cut && isClosed(p.open) {
		p.open = make(chan struct{})
	}
}

// Cut resets all connections, and new ones too until Heal, as a server does that
// has gone.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = true
	p.release()
	p.reset()
}

// Delay makes everything that either side sends from now on arrive later by d,
// until Heal.
func (p *Proxy) Delay(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = d
}

// Heal ends Blackhole, Cut and Delay. What was kept arrives.
func (p *Proxy) Heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut, p.delay = false, 0
	p.release()
}

// release lets everything through; the caller holds mu.
func (p *Proxy) release() {
	if !isClosed(p.open) {
		close(p.open)
	}
}

// reset ends all connections; the caller holds mu. Without lingering, the peer
// sees a reset.
func (p *Proxy) reset() {
	for conn := range p.conns {
		conn.(*net.TCPConn).SetLinger(0)
		conn.Close()
	}
}

func (p *Proxy) close() {
	p.mu.Lock()
	p.closed = true
	p.release()
	p.reset()
	p.mu.Unlock()
	p.listener.Close()
	p.tasks.Wait()
}

func (p *Proxy) serve() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		if p.add(client) {
			p.tasks.Go(func() { p.connect(client) })
		}
	}
}

// connect connects a client with the server, as soon as anything gets through.
func (p *Proxy) connect(client net.Conn) {
	p.pass()
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		p.remove(client)
		return
	}
	if !p.add(server) {
		p.remove(client)
		return
	}
	p.tasks.Go(func() { p.forward(server, client) })
	p.forward(client, server)
}

// maxQueue is how many reads wait to be forwarded in one direction.
const maxQueue = 1024

// packet is what was read at once, and when it is due.
type packet struct {
	data []byte
	due  time.Time
}

// forward writes to one side what it reads from the other, and ends both when
// either ends.
func (p *Proxy) forward(to, from net.Conn) {
	packets := make(chan packet, maxQueue)
	p.tasks.Go(func() {
		defer p.remove(to)
		for packet := range packets {
			time.Sleep(time.Until(packet.due))
			p.pass()
			if _, err := to.Write(packet.data); err != nil {
				from.Close()
				for range packets {
				}
				return
			}
		}
		p.pass() // an end does not get through either
	})
	defer close(packets)
	for {
		data := make([]byte, 32<<10)
		n, err := from.Read(data)
		if err != nil {
			return
		}
		packets <- packet{data[:n], p.due()}
	}
}

// pass waits until something gets through.
func (p *Proxy) pass() {
	p.mu.Lock()
	open := p.open
	p.mu.Unlock()
	<-open
}

func (p *Proxy) due() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return time.Now().Add(p.delay)
}

// add notes a connection, or resets it and returns false.
func (p *Proxy) add(conn net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cut || p.closed {
		conn.(*net.TCPConn).SetLinger(0)
		conn.Close()
		return false
	}
	p.conns[conn] = true
	return true
}

// remove ends a connection.
func (p *Proxy) remove(conn net.Conn) {
	conn.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, conn)
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
