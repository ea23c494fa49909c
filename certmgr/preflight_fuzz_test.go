package certmgr

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/nostall/nostall/internal/challenge"
	"github.com/nostall/nostall/internal/text"
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

// FuzzPreflightReply: whatever is at a name's addresses, a probe reads a bounded
// part of it, asks that address alone, and tells of it in one line of bounded
// length. Only the right answer passes.
func FuzzPreflightReply(f *testing.F) {
	for _, reply := range []string{"", "HTTP/1.1 200 OK\r\n\r\nanswer", "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nanswer\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nanswer\r\n0\r\n\r\n", "HTTP/1.1 404 Not Found\r\nServer: nginx\r\n\r\n",
		"HTTP/1.1 301 Moved\r\nLocation: https://a.example.com/\r\n\r\n", "HTTP/1.1 302 Found\r\nLocation: //other.example/\r\n\r\n",
		"HTTP/1.1 302 Found\r\nLocation: x\r\n\r\n", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 403 no\r\n\r\ncertmgr: \x1b[2J", "\x16\x03\x01\x00\x02\x01\x00"} {
		f.Add([]byte(reply))
	}
	f.Fuzz(func(t *testing.T, reply []byte) {
		dials := 0
		c := connector{addr: netip.MustParseAddr("192.0.2.1"), dial: func(_ context.Context, _, address string) (net.Conn, error) {
			if dials++; dials > maxPreflightRedirects+1 || !strings.HasPrefix(address, "192.0.2.1:") {
				t.Fatalf("connection %d, to %s", dials, address)
			}
			return wire{Reader: bytes.NewReader(reply)}, nil
		}}
		r := probeHTTP(t.Context(), c, "a.example.com", &probe{typ: challenge.HTTP01, token: "token", port: 80, want: []byte("answer")})
		if r.outcome == probeRight && !bytes.Contains(reply, []byte("200")) {
			t.Fatalf("passed: %q", reply)
		}
		e := &PreflightError{Host: "a.example.com", Addrs: []netip.Addr{c.addr}, Findings: []PreflightFinding{{Addr: netip.AddrPortFrom(c.addr, 80),
			Challenge: challenge.HTTP01, OK: r.outcome == probeRight, Answer: text.OneLine(r.text, maxAnswerText), Err: r.err, outcome: r.outcome}}}
		e.judge()
		if text := e.Error(); len(text) > maxPreflightText || strings.ContainsAny(text, "\r\n\x00\x1b") {
			t.Fatalf("%q", text)
		}
	})
}
