package acmetest

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"io"
	"math/big"
	"strings"
)

// base64url is the only encoding that ACME allows: no padding, no stray bits
// (RFC 8555, section 6.1).
var base64url = base64.RawURLEncoding.Strict()

// decode64 decodes base64url. Unlike package base64 it does not skip line
// breaks: with them, the same bytes would have several encodings, and the same
// key several thumbprints.
func decode64(s string) ([]byte, error) {
	if i := strings.IndexAny(s, "\r\n"); i >= 0 {
		return nil, base64.CorruptInputError(i)
	}
	return base64url.DecodeString(s)
}

// jws is a flattened JSON Web Signature. Its form was checked, but not its
// signature.
type jws struct {
	header    jwsHeader
	payload   []byte
	input     []byte // the signed bytes
	signature []byte
}

// jwsHeader is the protected header. Pointers distinguish absent from empty.
type jwsHeader struct {
	alg, nonce, url, kid *string
	jwk                  json.RawMessage
}

// parseJWS parses a flattened JWS (RFC 8555, section 6.2).
func parseJWS(body []byte) (*jws, *Problem) {
	members, err := parseObject(body)
	if err != nil {
		return nil, problemf("malformed", "the request is not a JWS in JSON: %v", err)
	}
	for _, name := range []string{"header", "signatures"} {
		if _, ok := members[name]; ok {
			return nil, problemf("malformed", "the JWS has %q: it must be flattened, with one signature and no unprotected header", name)
		}
	}
	var protected64, payload64, signature64 string
	for name, target := range map[string]*string{"protected": &protected64, "payload": &payload64, "signature": &signature64} {
		raw, ok := members[name]
		if !ok {
			return nil, problemf("malformed", "the JWS has no %q", name)
		}
		if err := json.Unmarshal(raw, target); err != nil || string(raw) == "null" {
			return nil, problemf("malformed", "%q of the JWS is not a string", name)
		}
	}
	j := &jws{input: []byte(protected64 + "." + payload64)}
	protected, err := decode64(protected64)
	if err != nil {
		return nil, problemf("malformed", "the protected header is not base64url without padding: %v", err)
	}
	if j.payload, err = decode64(payload64); err != nil {
		return nil, problemf("malformed", "the payload is not base64url without padding: %v", err)
	}
	if j.signature, err = decode64(signature64); err != nil {
		return nil, problemf("malformed", "the signature is not base64url without padding: %v", err)
	}
	if problem := j.header.parse(protected); problem != nil {
		return nil, problem
	}
	return j, nil
}

func (h *jwsHeader) parse(protected []byte) *Problem {
	members, err := parseObject(protected)
	if err != nil {
		return problemf("malformed", "the protected header is not a JSON object: %v", err)
	}
	for _, name := range []string{"crit", "b64"} {
		if _, ok := members[name]; ok {
			return problemf("malformed", "the protected header has %q, which is not supported", name)
		}
	}
	for name, target := range map[string]**string{"alg": &h.alg, "nonce": &h.nonce, "url": &h.url, "kid": &h.kid} {
		if raw, ok := members[name]; ok {
			if err := json.Unmarshal(raw, target); err != nil || *target == nil {
				return problemf("malformed", "%q in the protected header is not a string", name)
			}
		}
	}
	h.jwk = members["jwk"]
	if h.alg == nil {
		return problemf("malformed", `the protected header has no "alg"`)
	}
	return nil
}

// parseObject parses a JSON object with nothing after it. Names are
// case-sensitive and may occur once.
func parseObject(b []byte) (map[string]json.RawMessage, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	if token, err := d.Token(); err != nil {
		return nil, err
	} else if token != json.Delim('{') {
		return nil, errNotObject
	}
	members := make(map[string]json.RawMessage)
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return nil, err
		}
		name, ok := token.(string)
		if _, twice := members[name]; !ok || twice {
			return nil, errDuplicate
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, err
		}
		members[name] = value
	}
	if _, err := d.Token(); err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errTrailing
	}
	return members, nil
}

// verify checks the signature with a key that fits alg.
func (j *jws) verify(key *publicKey) bool {
	switch pub := key.public.(type) {
	case *ecdsa.PublicKey:
		size := (pub.Curve.Params().BitSize + 7) / 8
		if len(j.signature) != 2*size {
			return false
		}
		r := new(big.Int).SetBytes(j.signature[:size])
		s := new(big.Int).SetBytes(j.signature[size:])
		return ecdsa.Verify(pub, digest(key.alg, j.input), r, s)
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(pub, crypto.SHA256, digest(key.alg, j.input), j.signature) == nil
	default:
		return false
	}
}

func digest(alg string, input []byte) []byte {
	switch alg {
	case "ES384":
		sum := sha512.Sum384(input)
		return sum[:]
	case "ES512":
		sum := sha512.Sum512(input)
		return sum[:]
	default:
		sum := sha256.Sum256(input)
		return sum[:]
	}
}
