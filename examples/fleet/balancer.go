package main

import (
	"io"
	"net"
	"slices"
	"sync"
)

// balancer passes each connection on to the next server.
type balancer struct {
	listener net.Listener

	mu      sync.Mutex
	servers []string // addresses, the next one first
}

func startBalancer() (*balancer, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	b := &balancer{listener: l}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go b.pass(conn)
		}
	}()
	return b, nil
}

func (b *balancer) addr() string { return b.listener.Addr().String() }
func (b *balancer) close()       { _ = b.listener.Close() }

func (b *balancer) add(addr string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.servers = append(b.servers, addr)
}

// remove takes a server out of service, as a failed health check does.
func (b *balancer) remove(addr string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.servers = slices.DeleteFunc(b.servers, func(a string) bool { return a == addr })
}

// take returns the next server.
func (b *balancer) take() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.servers) == 0 {
		return ""
	}
	next := b.servers[0]
	b.servers = append(b.servers[1:], next)
	return next
}

func (b *balancer) pass(client net.Conn) {
	defer func() { _ = client.Close() }()
	server, err := net.Dial("tcp", b.take())
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	go func() {
		_, _ = io.Copy(server, client)
		_ = server.Close()
	}()
	_, _ = io.Copy(client, server)
}
