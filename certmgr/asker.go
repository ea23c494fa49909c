package certmgr

import (
	"context"
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

// Asker describes the client whose handshake had Manager.HostPolicy asked. Each
// string is one line of at most 300 bytes, in which what cannot be printed is
// escaped: it is the client's, and for logs only.
type Asker struct {
	RemoteAddr string // address and port; empty if the connection does not tell
	SNI        string // server name, as it was sent
	ALPN       string // protocols, comma-separated
}

// AskerFromContext returns the client that a call of Manager.HostPolicy is for,
// if ctx is the context of that call or derived from it, and the call has not
// returned. It is safe for concurrent use.
//
// It is meant for logs and must not influence the answer. The answer is shared:
// by all clients that ask for the host during the call, and for PolicyTTL and
// longer by those that come after. Only the first of them is known.
//
// ok is false if no handshake asks: before a renewal, at Start, for Obtain and
// the like, for http-01 requests, and after a change of the list.
func AskerFromContext(ctx context.Context) (a Asker, ok bool) {
	var of asker
	switch by := ctx.Value(askerKey{}).(type) {
	case *tls.ClientHelloInfo:
		if by == nil {
			return Asker{}, false
		}
		of = askerOf(by)
	case *asker:
		if by == nil {
			return Asker{}, false
		}
		of = *by
	default:
		return Asker{}, false
	}
	return Asker{RemoteAddr: of.remoteAddr, SNI: of.sni, ALPN: of.alpn}, true
}

type askerKey struct{}

// askedBy is the client for which HostPolicy is asked: a *tls.ClientHelloInfo, if
// the call was begun by its handshake, or else an *asker. Most policies do not
// look at it, so nothing is copied before they do. It is nil if there is none.
type askedBy = any

// copyOfAsker returns the client of a hello, which may be nil, for a call that
// may outlive the handshake.
func copyOfAsker(hello *tls.ClientHelloInfo) askedBy {
	if hello == nil {
		return nil
	}
	a := askerOf(hello)
	return &a
}

// event returns e with the client's fields.
func (a asker) event(e audit.Event) audit.Event {
	e.RemoteAddr, e.SNI, e.ALPN = a.remoteAddr, a.sni, a.alpn
	return e
}
