package probe

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/nostall/nostall/internal/challenge"
)

// wire is a connection that says what it is told to, whatever it is sent.
type wire struct {
	net.Conn
	*bytes.Reader
}

func (w wire) Read(p []byte) (int, error)     { return w.Reader.Read(p) }
func (wire) Write(p []byte) (int, error)      { return len(p), nil }
func (wire) Close() error                     { return nil }
func (wire) SetDeadline(time.Time) error      { return nil }
func (wire) SetReadDeadline(time.Time) error  { return nil }
func (wire) SetWriteDeadline(time.Time) error { return nil }

// endless is a connection that never ends, nor heeds a deadline.
type endless struct {
	wire
	n *int
}

func (e endless) Read(p []byte) (int, error) {
	if *e.n += len(p); *e.n > 1<<20 {
		return 0, io.EOF
	}
	return copy(p, bytes.Repeat([]byte("HTTP/1.1 200"), len(p))), nil
}

func TestABoundedPartOfAReplyIsRead(t *testing.T) {
	n := 0
	c := connector{addr: netip.MustParseAddr("192.0.2.1"), dial: func(context.Context, string, string) (net.Conn, error) { return endless{n: &n}, nil }}
	r := askHTTP(t.Context(), c, "a.example.com", &probe{typ: challenge.HTTP01, token: "token", want: []byte("answer")})
	if r.outcome != wrong || n > 2*maxReply {
		t.Errorf("%+v after %d bytes", r, n)
	}
}
