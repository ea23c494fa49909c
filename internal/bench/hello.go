package main

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"time"
)

// recordHello returns the first bytes that Go's own client sends. The name in
// them does not matter: see withName.
func recordHello() ([]byte, error) {
	conn := new(recordedConn)
	client := tls.Client(conn, &tls.Config{ServerName: "www.example.com", NextProtos: []string{"h2", "http/1.1"}})
	if err := client.Handshake(); !errors.Is(err, io.EOF) {
		return nil, err
	}
	return conn.written, nil
}

// inHandshake makes a TLS server read a ClientHello and calls f in place of
// GetCertificate. The hello's context ends when f returns.
func inHandshake(ctx context.Context, hello []byte, f func(*tls.ClientHelloInfo) error) error {
	var ran bool
	var result error
	server := tls.Server(&recordedConn{unread: hello}, &tls.Config{
		GetConfigForClient: func(info *tls.ClientHelloInfo) (*tls.Config, error) {
			ran, result = true, f(info)
			return nil, net.ErrClosed // the rest of the handshake is not needed
		},
	})
	if err := server.HandshakeContext(ctx); !ran {
		return err
	}
	return result
}

// withName returns a copy of hello, context included, for another host.
func withName(hello *tls.ClientHelloInfo, host string) *tls.ClientHelloInfo {
	h := *hello
	h.ServerName = host
	return &h
}

// recordedConn is a connection to a peer that has sent all its data. It records
// what is written to it.
type recordedConn struct {
	unread, written []byte
}

var _ net.Conn = (*recordedConn)(nil)

func (c *recordedConn) Read(b []byte) (int, error) {
	if len(c.unread) == 0 {
		return 0, io.EOF
	}
	n := copy(b, c.unread)
	c.unread = c.unread[n:]
	return n, nil
}

func (c *recordedConn) Write(b []byte) (int, error) {
	c.written = append(c.written, b...)
	return len(b), nil
}

func (c *recordedConn) Close() error         { return nil }
func (c *recordedConn) LocalAddr() net.Addr  { return loopback(443) }
func (c *recordedConn) RemoteAddr() net.Addr { return loopback(50000) }

func (c *recordedConn) SetDeadline(time.Time) error      { return nil }
func (c *recordedConn) SetReadDeadline(time.Time) error  { return nil }
func (c *recordedConn) SetWriteDeadline(time.Time) error { return nil }

func loopback(port int) net.Addr {
	return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port}
}
