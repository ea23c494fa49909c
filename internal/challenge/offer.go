package challenge

import (
	"crypto/tls"
	"reflect"
	"strings"
	"sync/atomic"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/internal/text"
)

// Offer is what is known of whether the servers of this process offer
// "acme-tls/1", the protocol of tls-alpn-01. The zero value knows nothing. It is
// safe for concurrent use.
type Offer struct {
	made    atomic.Bool // by one of the servers at least
	lacking atomic.Bool // in another one's configuration, or as the CA says
}

// Saw takes note of the configuration of the server that got a hello. That of a
// hello made by hand is not known, nor what GetConfigForClient would return for
// a CA's.
func (o *Offer) Saw(hello *tls.ClientHelloInfo) {
	switch offers, known := offersALPN(hello); {
	case offers:
		o.made.Store(true)
	case known:
		o.lacking.Store(true)
	}
}

// Refused takes note that a CA was not offered the protocol by a server that then
// answered its http-01 request.
func (o *Offer) Refused() { o.lacking.Store(true) }

// IsLacking reports whether it is known that no server offers the protocol.
func (o *Offer) IsLacking() bool { return o.lacking.Load() && !o.made.Load() }

// offersALPN reports whether the configuration in use for a hello offers
// "acme-tls/1", if that is known. Package tls does not export it, so it is looked
// up by name. Where it is not there, in another version of Go, tls-alpn-01 is
// tried before http-01 until the CA has said that it is not offered.
func offersALPN(hello *tls.ClientHelloInfo) (offers, known bool) {
	field := reflect.ValueOf(hello).Elem().FieldByName("config")
	if !field.IsValid() || field.Type() != reflect.TypeFor[*tls.Config]() || field.IsNil() {
		return false, false
	}
	config := field.Elem()
	protos := config.FieldByName("NextProtos")
	for i := range protos.Len() {
		if protos.Index(i).String() == acme.ALPNProto {
			return true, true
		}
	}
	return false, config.FieldByName("GetConfigForClient").IsNil()
}

// IsNotOffered reports whether a CA refused a challenge because the server that it
// reached does not offer the protocol of tls-alpn-01.
func IsNotOffered(typ string, reason *acme.Error) bool {
	return typ == TLSALPN01 && reason != nil &&
		containsAny(strings.ToLower(text.Of(reason)), "no application protocol", "no_application_protocol", "negotiate")
}
