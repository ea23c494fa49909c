package certmgr_test

import (
	"crypto/tls"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/nostall/nostall/certmgr"
)

// BenchmarkResumption is a handshake of TLS 1.3 with a client of before, over
// memory: in full, resumed by a configuration that asks nobody, as crypto/tls
// does on its own, and resumed by TLSConfig. MayResume is what the last one adds,
// beside the few bytes in the ticket.
func BenchmarkResumption(b *testing.B) {
	const host = "host-00000.example.com"
	m := &certmgr.Manager{Prompt: certmgr.AcceptTOS, Cache: benchCache(b, 1), Hosts: certmgr.MustAllowlist(host)}
	defer closeGetter(b, m)
	mustGet(b, m, benchHello(b, ""), host)
	bare := m.TLSConfig()
	bare.WrapSession, bare.UnwrapSession = nil, nil
	full := bare.Clone()
	full.SessionTicketsDisabled = true
	for _, mode := range []struct {
		name   string
		server *tls.Config
	}{{"full", full}, {"resumed-unasked", bare}, {"resumed", m.TLSConfig()}} {
		b.Run("mode="+mode.name, func(b *testing.B) {
			b.ReportAllocs()
			client := &tls.Config{
				ServerName:         host,
				ClientSessionCache: tls.NewLRUClientSessionCache(1),
				InsecureSkipVerify: true, // the server is measured
			}
			benchVisit(b, mode.server, client)
			for b.Loop() {
				if resumed := benchVisit(b, mode.server, client); resumed != (mode.server != full) {
					b.Fatalf("resumed: %v", resumed)
				}
			}
		})
	}
	b.Run("mode=MayResume", func(b *testing.B) {
		b.ReportAllocs()
		cs := tls.ConnectionState{ServerName: host}
		for b.Loop() {
			if !m.MayResume(cs) {
				b.Fatal("it may not")
			}
		}
	})
}

// benchVisit is one connection in memory, with a byte from the server.
func benchVisit(b *testing.B, server, client *tls.Config) (resumed bool) {
	near, far := net.Pipe()
	var wg sync.WaitGroup
	wg.Go(func() {
		defer far.Close()
		if conn := tls.Server(far, server); conn.HandshakeContext(b.Context()) == nil {
			conn.Write([]byte{0})
		}
	})
	defer wg.Wait()
	defer near.Close()
	conn := tls.Client(near, client)
	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
		b.Fatal(err)
	}
	return conn.ConnectionState().DidResume
}
