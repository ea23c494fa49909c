package certmgr

import (
	"crypto/tls"
	"log"
	"net"
	"os"
	"path/filepath"
	"time"
)

// NewListener returns a listener on port 443 of all interfaces whose
// connections use Let's Encrypt certificates for domains:
//
//	log.Fatal(http.Serve(certmgr.NewListener("example.com"), handler))
//
// By using it you accept Let's Encrypt's terms of service. Invalid domains are
// ignored as by HostWhitelist. Without any domain no host is allowed, unlike in
// autocert. Certificates are stored in the same directory as by autocert's
// NewListener: "golang-autocert" below os.UserCacheDir.
//
// The listener enables HTTP/2 and TCP keep-alives. If it cannot listen, its
// Accept returns the error.
func NewListener(domains ...string) net.Listener {
	m := &Manager{Prompt: AcceptTOS}
	if len(domains) > 0 {
		m.HostPolicy = HostWhitelist(domains...)
	}
	dir := listenerCacheDir()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		log.Printf("certmgr: NewListener works without a cache, each start will issue again: %v", err)
	} else {
		m.Cache = DirCache(dir)
	}
	return m.Listener()
}

// Listener listens on port 443 of all interfaces and returns *tls.Conn
// connections with m's certificates, before their handshakes. It enables HTTP/2
// and TCP keep-alives. If it cannot listen, its Accept returns the error.
func (m *Manager) Listener() net.Listener {
	ln := &listener{config: m.TLSConfig()}
	ln.tcp, ln.err = net.Listen("tcp", ":443")
	return ln
}

// listener is a TCP listener, or the error why there is none.
type listener struct {
	config *tls.Config
	tcp    net.Listener
	err    error
}

// keepAlive detects dead peers. It is net/http's old period, which autocert's
// listeners use too.
const keepAlive = 3 * time.Minute

func (ln *listener) Accept() (net.Conn, error) {
	if ln.err != nil {
		return nil, ln.err
	}
	conn, err := ln.tcp.Accept()
	if err != nil {
		return nil, err
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		tcp.SetKeepAlive(true)
		tcp.SetKeepAlivePeriod(keepAlive)
	}
	return tls.Server(conn, ln.config), nil
}

func (ln *listener) Addr() net.Addr {
	if ln.tcp == nil {
		return &net.TCPAddr{IP: net.IPv4zero, Port: 443}
	}
	return ln.tcp.Addr()
}

func (ln *listener) Close() error {
	if ln.err != nil {
		return ln.err
	}
	return ln.tcp.Close()
}

func listenerCacheDir() string {
	base, err := os.UserCacheDir()
	if err != nil {
		base = "/.cache" // as in autocert: better than none
	}
	return filepath.Join(base, "golang-autocert")
}
