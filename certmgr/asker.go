package certmgr

import (
	"crypto/tls"
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
	if hello.Conn != nil {
		if addr := hello.Conn.RemoteAddr(); addr != nil {
			a.remoteAddr = text.OneLine(addr.String(), maxAsked)
		}
	}
	return a
}

// event returns e with the client's fields.
func (a asker) event(e audit.Event) audit.Event {
	e.RemoteAddr, e.SNI, e.ALPN = a.remoteAddr, a.sni, a.alpn
	return e
}
