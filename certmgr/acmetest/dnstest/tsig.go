package dnstest

import (
	"bytes"
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"hash"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// typeTSIG is the type of the record that signs a message (RFC 8945).
const typeTSIG = 250

// The errors in a TSIG record (RFC 8945, section 3).
const (
	badSignature = 16
	badKey       = 17
	badTime      = 18
)

// macHashes are the hashes of TSIG by the name of the algorithm in wire format
// (RFC 8945, section 6). Old clients still use the weak ones.
var macHashes = map[string]func() hash.Hash{
	wireName("hmac-md5.sig-alg.reg.int."): md5.New,
	wireName("hmac-sha1."):                sha1.New,
	wireName("hmac-sha224."):              sha256.New224,
	wireName("hmac-sha256."):              sha256.New,
	wireName("hmac-sha384."):              sha512.New384,
	wireName("hmac-sha512."):              sha512.New,
}

// tsig is the TSIG record of a request, and what signs the reply.
type tsig struct {
	name, algorithm []byte // in wire format, in lower case
	signed          uint64 // when, in seconds since 1970
	fudge           uint16
	mac             []byte
	id              uint16 // of the message when it was signed
	failure         uint16
	other           []byte

	newHash func() hash.Hash // nil if the key is not known: the reply is not signed
	secret  []byte
}

var errTSIG = errors.New("malformed message")

// verify checks the signature of a message. Without one it returns nil.
func (s *Server) verify(msg []byte, now time.Time) (*tsig, dnsmessage.RCode) {
	at, t, err := findTSIG(msg)
	if err != nil {
		return nil, dnsmessage.RCodeFormatError
	}
	if t == nil {
		return nil, dnsmessage.RCodeSuccess
	}
	secret, known := s.secret(t.name)
	newHash := macHashes[string(t.algorithm)]
	if !known || newHash == nil {
		t.failure = badKey
		return t, notAuth
	}
	signed := bytes.Clone(msg[:at])
	binary.BigEndian.PutUint16(signed, t.id)
	binary.BigEndian.PutUint16(signed[10:], binary.BigEndian.Uint16(msg[10:])-1)
	mac := hmac.New(newHash, secret)
	mac.Write(signed)
	mac.Write(t.variables())
	if !hmac.Equal(mac.Sum(nil), t.mac) {
		t.failure = badSignature
		return t, notAuth
	}
	t.newHash, t.secret = newHash, secret
	if off := now.Unix() - int64(t.signed); max(off, -off) > int64(t.fudge) {
		t.failure = badTime
		return t, notAuth
	}
	return t, dnsmessage.RCodeSuccess
}

// secret returns the secret of a key, whose name is in wire format.
func (s *Server) secret(name []byte) ([]byte, bool) {
	for key, secret := range s.Keys {
		if wireName(strings.TrimSuffix(strings.ToLower(key), ".")+".") == string(name) {
			return secret, true
		}
	}
	return nil, false
}

// sign appends the TSIG record of a reply (RFC 8945, section 5.3).
func (t *tsig) sign(msg []byte, now time.Time) []byte {
	reply := *t
	reply.id = binary.BigEndian.Uint16(msg)
	reply.mac, reply.other = nil, nil
	if t.failure == badTime {
		reply.other = binary.BigEndian.AppendUint64(nil, uint64(now.Unix()))[2:]
	} else {
		reply.signed = uint64(now.Unix())
	}
	if t.newHash != nil {
		mac := hmac.New(t.newHash, t.secret)
		mac.Write(binary.BigEndian.AppendUint16(nil, uint16(len(t.mac))))
		mac.Write(t.mac)
		mac.Write(msg)
		mac.Write(reply.variables())
		reply.mac = mac.Sum(nil)
	}
	binary.BigEndian.PutUint16(msg[10:], binary.BigEndian.Uint16(msg[10:])+1)
	return append(msg, reply.record()...)
}

// variables returns the part of the record that is signed (RFC 8945, section
// 4.3.3).
func (t *tsig) variables() []byte {
	b := bytes.Clone(t.name)
	b = append(b, 0, 255, 0, 0, 0, 0) // class ANY, TTL 0
	b = append(b, t.algorithm...)
	b = append(b, t.times()...)
	b = binary.BigEndian.AppendUint16(b, t.failure)
	b = binary.BigEndian.AppendUint16(b, uint16(len(t.other)))
	return append(b, t.other...)
}

// times returns the time of signing, in 48 bits, and the fudge.
func (t *tsig) times() []byte {
	b := binary.BigEndian.AppendUint64(nil, t.signed)[2:]
	return binary.BigEndian.AppendUint16(b, t.fudge)
}

// record returns the record in wire format (RFC 8945, section 4.2).
func (t *tsig) record() []byte {
	data := append(bytes.Clone(t.algorithm), t.times()...)
	data = binary.BigEndian.AppendUint16(data, uint16(len(t.mac)))
	data = append(data, t.mac...)
	data = binary.BigEndian.AppendUint16(data, t.id)
	data = binary.BigEndian.AppendUint16(data, t.failure)
	data = binary.BigEndian.AppendUint16(data, uint16(len(t.other)))
	data = append(data, t.other...)

	b := append(bytes.Clone(t.name), 0, typeTSIG, 0, 255, 0, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(len(data)))
	return append(b, data...)
}
