package certmgr

import (
	"crypto/tls"
	"net"
	"strings"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/text"
)

// asker describes the client in fields of events.
type asker struct{ remoteAddr, sni, alpn string }

// maxAsked is the longest text of a ClientHello in an event.
const maxAsked = 300

// askerOf returns the client of a hello, in bounded copies of its strings.
func askerOf(hello *tls.ClientHelloInfo) asker {
	a := asker{sni: text.OneLine(hello.ServerName, maxAsked)}
	var alpn strings.Builder
	for i, p := range hello.SupportedProtos {
		if alpn.Len() > maxAsked {
			break
		}
		if i > 0 {
			alpn.WriteByte(',')
		}
		alpn.WriteString(p)
	}
	a.alpn = text.OneLine(alpn.String(), maxAsked)
	a.remoteAddr = text.OneLine(remoteAddr(hello.Conn), maxAsked)
	return a
}

// remoteAddr returns the address of a connection's other end, or "". The
// connection of a hello made by hand may have none, or be a dummy that panics.
func remoteAddr(conn net.Conn) (addr string) {
	if conn == nil {
		return ""
	}
	defer func() {
		if recover() != nil {
			addr = ""
		}
	}()
	if a := conn.RemoteAddr(); a != nil {
		addr = a.String()
	}
	return addr
}

// event returns e with the client's fields.
func (a asker) event(e audit.Event) audit.Event {
	e.RemoteAddr, e.SNI, e.ALPN = a.remoteAddr, a.sni, a.alpn
	return e
}
