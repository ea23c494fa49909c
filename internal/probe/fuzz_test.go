package probe

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/nostall/nostall/certmgr/preflight"
	"github.com/nostall/nostall/internal/challenge"
)

// FuzzReply: whatever is at a name's addresses, a probe reads a bounded
// part of it, asks that address alone, and tells of it in one line of bounded
// length. Only the right answer passes.
func FuzzReply(f *testing.F) {
	for _, reply := range []string{"", "HTTP/1.1 200 OK\r\n\r\nanswer", "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nanswer\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nanswer\r\n0\r\n\r\n", "HTTP/1.1 404 Not Found\r\nServer: nginx\r\n\r\n",
		"HTTP/1.1 301 Moved\r\nLocation: https://a.example.com/\r\n\r\n", "HTTP/1.1 302 Found\r\nLocation: //other.example/\r\n\r\n",
		"HTTP/1.1 302 Found\r\nLocation: x\r\n\r\n", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 403 no\r\n\r\ncertmgr: \x1b[2J", "\x16\x03\x01\x00\x02\x01\x00"} {
		f.Add([]byte(reply))
	}
	f.Fuzz(func(t *testing.T, reply []byte) {
		dials := 0
		c := connector{addr: netip.MustParseAddr("192.0.2.1"), dial: func(_ context.Context, _, address string) (net.Conn, error) {
			if dials++; dials > maxRedirects+1 || !strings.HasPrefix(address, "192.0.2.1:") {
				t.Fatalf("connection %d, to %s", dials, address)
			}
			return wire{Reader: bytes.NewReader(reply)}, nil
		}}
		p := &probe{typ: challenge.HTTP01, token: "token", port: 80, want: []byte("answer")}
		r := askHTTP(t.Context(), c, "a.example.com", p)
		if r.outcome == right && !bytes.Contains(reply, []byte("200")) {
			t.Fatalf("passed: %q", reply)
		}
		e := &preflight.Error{Host: "a.example.com", Addrs: []netip.Addr{c.addr}}
		result := conclude(e, []finding{p.finding(c.addr, r)})
		if line := result.Err.Error(); len(line) > 512 || strings.ContainsAny(line, "\r\n\x00\x1b") {
			t.Fatalf("%q", line)
		}
	})
}
