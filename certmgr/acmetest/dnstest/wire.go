package dnstest

import (
	"bytes"
	"encoding/binary"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

// wireName returns a name that ends with a dot in wire format, in lower case.
func wireName(name string) string {
	var b strings.Builder
	for label := range strings.SplitSeq(strings.TrimSuffix(name, "."), ".") {
		b.WriteByte(byte(len(label)))
		b.WriteString(strings.ToLower(label))
	}
	b.WriteByte(0)
	return b.String()
}

// lower returns a name of a message in lower case. Only ASCII has cases there,
// and no other byte may change its length.
func lower(name dnsmessage.Name) string { return string(lowerASCII(name.Data[:name.Length])) }

func lowerASCII(b []byte) []byte {
	b = bytes.Clone(b)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return b
}

// canHaveRecords reports whether a name in lower case can have records. The CA
// panics for others, which would be mistakes in a test.
func canHaveRecords(name string) bool {
	var last string
	for label := range strings.SplitSeq(strings.TrimSuffix(name, "."), ".") {
		if last = label; label == "" || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return false
		}
	}
	return strings.Trim(last, "0123456789") != ""
}

// maxName is the longest name in wire format, without its end (RFC 1035, section
// 3.1).
const maxName = 254

// wire reads a message. Reading past its end, or what it cannot read, sets bad.
type wire struct {
	msg []byte
	at  int
	bad bool
}

func (w *wire) bytes(n int) []byte {
	if w.bad || n > len(w.msg)-w.at {
		w.bad = true
		return make([]byte, n)
	}
	w.at += n
	return w.msg[w.at-n : w.at]
}

func (w *wire) uint16() uint16 { return binary.BigEndian.Uint16(w.bytes(2)) }

// name reads a name and returns it in lower case. It is nil if it is compressed,
// which the names of TSIG are not.
func (w *wire) name() []byte {
	start := w.at
	for !w.bad {
		switch length := int(w.bytes(1)[0]); {
		case length == 0:
			return lowerASCII(w.msg[start:w.at]) // lengths are below 'A'
		case length < 64:
			// A dot within a label is legal, but dnsmessage cannot read it.
			if bytes.IndexByte(w.bytes(length), '.') >= 0 || w.at-start > maxName {
				w.bad = true
			}
		case length >= 192: // a pointer
			w.bytes(1)
			return nil
		default:
			w.bad = true
		}
	}
	return nil
}

// findTSIG returns the TSIG record of a message and where it begins. It is the
// last record, if there is one (RFC 8945, section 5.1); otherwise it is nil.
func findTSIG(msg []byte) (at int, t *tsig, err error) {
	w := &wire{msg: msg}
	w.bytes(4)
	questions, records := int(w.uint16()), 0
	for range 3 {
		records += int(w.uint16())
	}
	for range questions {
		w.name()
		w.bytes(4)
	}
	for i := range records {
		at = w.at
		name := w.name()
		typ := w.uint16()
		w.bytes(6) // class and TTL
		data := w.bytes(int(w.uint16()))
		switch {
		case w.bad:
			return 0, nil, errTSIG
		case typ != typeTSIG:
			continue
		case i != records-1 || name == nil:
			return 0, nil, errTSIG
		}
		t, err := parseTSIG(name, data)
		return at, t, err
	}
	if w.bad {
		return 0, nil, errTSIG
	}
	return 0, nil, nil
}

// parseTSIG reads the data of a TSIG record.
func parseTSIG(name, data []byte) (*tsig, error) {
	w := &wire{msg: data}
	t := &tsig{name: name, algorithm: w.name()}
	t.signed = uint64(w.uint16())<<32 | uint64(binary.BigEndian.Uint32(w.bytes(4)))
	t.fudge = w.uint16()
	t.mac = w.bytes(int(w.uint16()))
	t.id = w.uint16()
	t.failure = w.uint16()
	t.other = w.bytes(int(w.uint16()))
	if w.bad || t.algorithm == nil || w.at != len(data) {
		return nil, errTSIG
	}
	return t, nil
}
