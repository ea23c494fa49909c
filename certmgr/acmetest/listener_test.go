package acmetest

import (
	"io"
	"net"
	"net/http"
	"testing"
)

// TestLateConnectionIsClosed: a connection that was accepted just before its
// listener was closed does not keep Close waiting.
func TestLateConnectionIsClosed(t *testing.T) {
	client, server := net.Pipe()
	defer client.Close()
	l := &listener{ln: listenLoopback(), server: new(http.Server)}
	l.close()
	l.connState(server, http.StateNew)
	if _, err := client.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the connection is open: %v", err)
		server.Close()
	}
	l.connState(server, http.StateClosed)
	l.wait()
}
