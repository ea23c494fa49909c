// Package dnstest is a DNS server for tests with the fake CA of package
// acmetest. Programs that publish dns-01 challenges over DNS, or look names up
// before they ask a CA, use it as they would use a real one.
//
//	ca := acmetest.NewServer()
//	defer ca.Close()
//	dns := dnstest.NewServer(ca)
//	defer dns.Close()
//	cmd := exec.Command("lego", "--server", ca.URL, "--dns", "rfc2136", ...)
//	cmd.Env = append(os.Environ(), "RFC2136_NAMESERVER="+dns.Addr, ...)
//
// The server has the CA's records. It answers with the TXT records of
// [acmetest.Server.AddTXT], the CNAME records of [acmetest.Server.SetCNAME], and
// addresses for the names of [acmetest.Server.Resolve]: those in the Target, or
// 127.0.0.1. Each name of one or two labels is the apex of a zone. Nothing may
// be cached.
//
// Dynamic updates (RFC 2136) add and remove TXT records; without Keys anybody
// may send them. They are signed by TSIG (RFC 8945) if there are Keys.
// Prerequisites are not supported.
package dnstest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/nostall/nostall/certmgr/acmetest"
)

const (
	maxMessage  = 1<<16 - 1
	idleTimeout = 10 * time.Second // of a TCP connection
	portTries   = 20               // ports that may be free for TCP only
)

// Server is a DNS server over UDP and TCP. Set its fields, start it by Start,
// and end it by Close. The fields must not change in between.
type Server struct {
	// CA has the records.
	CA *acmetest.Server

	// Addr is the host:port to listen on. Empty, or with port 0, Start sets it to
	// a free port, of 127.0.0.1 if it is empty.
	Addr string

	// Keys holds the secrets of TSIG keys, by name. If it is not nil, updates
	// must be signed with one of them, by HMAC with any usual hash.
	Keys map[string][]byte

	udp     net.PacketConn
	tcp     net.Listener
	serving sync.WaitGroup // the loops and connections

	mu     sync.Mutex
	closed bool
	conns  map[net.Conn]bool // open TCP connections
}

// NewServer starts a DNS server on a free port of 127.0.0.1. It panics if that
// fails.
func NewServer(ca *acmetest.Server) *Server {
	s := &Server{CA: ca}
	if err := s.Start(); err != nil {
		panic(err.Error())
	}
	return s
}

// Start starts the server. An error says why it cannot listen.
func (s *Server) Start() error {
	if s.CA == nil {
		return errors.New("dnstest: the field CA is not set")
	}
	if err := s.listen(); err != nil {
		return fmt.Errorf("dnstest: %w", err)
	}
	s.Addr = s.tcp.Addr().String()
	s.closed, s.conns = false, make(map[net.Conn]bool)
	s.serving.Go(s.serveUDP)
	s.serving.Go(s.serveTCP)
	return nil
}

// listen listens on the same port by TCP and by UDP.
func (s *Server) listen() (err error) {
	addr := s.Addr
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	for range portTries {
		if s.tcp, err = net.Listen("tcp", addr); err != nil {
			return err
		}
		if s.udp, err = net.ListenPacket("udp", s.tcp.Addr().String()); err == nil {
			return nil
		}
		_ = s.tcp.Close()
		if port != "0" {
			return err
		}
	}
	return err
}

// Close ends the server and waits for its goroutines. It may be called more
// than once, and on a server that was not started.
func (s *Server) Close() {
	if s.tcp == nil {
		return
	}
	_ = s.tcp.Close()
	_ = s.udp.Close()
	s.mu.Lock()
	s.closed = true
	for conn := range s.conns {
		_ = conn.Close()
	}
	s.mu.Unlock()
	s.serving.Wait()
}

func (s *Server) serveUDP() {
	buf := make([]byte, maxMessage)
	for {
		n, from, err := s.udp.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // such as an ICMP error for an earlier reply
		}
		if answer := s.reply(buf[:n], minUDP); answer != nil {
			_, _ = s.udp.WriteTo(answer, from)
		}
	}
}

func (s *Server) serveTCP() {
	for {
		conn, err := s.tcp.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(time.Millisecond) // such as too many open files
			continue
		}
		s.mu.Lock()
		if s.closed {
			_ = conn.Close()
		} else {
			s.conns[conn] = true
			s.serving.Go(func() { s.serveConn(conn) })
		}
		s.mu.Unlock()
	}
}

// serveConn answers the messages of a TCP connection, each after its length.
func (s *Server) serveConn(conn net.Conn) {
	defer func() {
		_ = conn.Close()
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.conns, conn)
	}()
	for {
		_ = conn.SetDeadline(time.Now().Add(idleTimeout))
		var length [2]byte
		if _, err := io.ReadFull(conn, length[:]); err != nil {
			return
		}
		msg := make([]byte, binary.BigEndian.Uint16(length[:]))
		if _, err := io.ReadFull(conn, msg); err != nil {
			return
		}
		answer := s.reply(msg, maxMessage)
		if answer == nil {
			return
		}
		out := binary.BigEndian.AppendUint16(nil, uint16(len(answer)))
		if _, err := conn.Write(append(out, answer...)); err != nil {
			return
		}
	}
}
