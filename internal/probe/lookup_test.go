package probe

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"

	"github.com/nostall/nostall/certmgr/preflight"
	"github.com/nostall/nostall/internal/flight"
)

func checkerWith(resolver preflight.Resolver) *Checker {
	return New(Config{Resolver: resolver, Lookups: flight.NewCallouts("PreflightResolver", 10)})
}

// The system's resolver is asked for the name alone, and not below the domains
// of a search list.
func TestTheNameItselfIsLookedUp(t *testing.T) {
	c := checkerWith(&net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		return nil, errors.New("no network")
	}})
	_, err := c.lookup(t.Context(), "a.example.com")
	if e, ok := errors.AsType[*net.DNSError](err); !ok || e.Name != "a.example.com." {
		t.Errorf("got %v", err)
	}
}

// A resolver that has no answer about IPv4 does not become a name without
// addresses because there is none for IPv6.
func TestFailedLookupsAreToldFromMissingNames(t *testing.T) {
	const servfail, typeA, typeAAAA = 2, 1, 28
	for fails, want := range map[uint16]bool{typeA: false, typeAAAA: false, 0: true} {
		c := checkerWith(&net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
			client, server := net.Pipe()
			go serveDNS(server, func(qtype uint16) (rcode byte) {
				if qtype == fails {
					return servfail
				}
				return 0 // no such address
			})
			return client, nil
		}})
		for range 20 { // which answer comes first is chance
			_, err := c.lookup(t.Context(), "a.example.com")
			if isNotFound(err) != want || err == nil {
				t.Errorf("type %d fails: %v", fails, err)
			}
		}
	}
}

// serveDNS answers one question (RFC 1035, sections 4.1 and 4.2.2) with a code
// and no address.
func serveDNS(conn net.Conn, rcode func(qtype uint16) byte) {
	defer conn.Close()
	var length [2]byte
	if _, err := io.ReadFull(conn, length[:]); err != nil {
		return
	}
	msg := make([]byte, binary.BigEndian.Uint16(length[:]))
	if _, err := io.ReadFull(conn, msg); err != nil {
		return
	}
	end := 12 + bytes.IndexByte(msg[12:], 0) + 1 // of the name
	msg = msg[:end+4]
	msg[2], msg[3] = 0x81, 0x80|rcode(binary.BigEndian.Uint16(msg[end:]))
	copy(msg[6:12], make([]byte, 6)) // no records
	conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(msg))), msg...))
}
