package acmetest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
)

var (
	errNotObject = errors.New("not a JSON object")
	errDuplicate = errors.New("a name occurs twice")
	errTrailing  = errors.New("something follows the JSON object")
)

// algorithms returns the signature algorithms for requests.
func algorithms() []string { return []string{"ES256", "ES384", "ES512", "RS256"} }

// publicKey is an account's key.
type publicKey struct {
	public     crypto.PublicKey
	alg        string // the only algorithm that fits it
	thumbprint string // RFC 7638, SHA-256, base64url
}

// equal reports whether pub is the same key.
func (k *publicKey) equal(pub crypto.PublicKey) bool {
	own, ok := k.public.(interface{ Equal(crypto.PublicKey) bool })
	return ok && own.Equal(pub)
}

// curveOf returns the curve and algorithm of a name from RFC 7518, section
// 6.2.1.1.
func curveOf(crv string) (elliptic.Curve, string) {
	switch crv {
	case "P-256":
		return elliptic.P256(), "ES256"
	case "P-384":
		return elliptic.P384(), "ES384"
	case "P-521":
		return elliptic.P521(), "ES512"
	default:
		return nil, ""
	}
}

// parseJWK parses a public key (RFC 7517).
func parseJWK(raw json.RawMessage) (*publicKey, error) {
	members, err := parseObject(raw)
	if err != nil {
		return nil, err
	}
	text := make(map[string]string)
	for _, name := range []string{"kty", "alg", "crv", "x", "y", "n", "e"} {
		if value, ok := members[name]; ok {
			var s string
			if err := json.Unmarshal(value, &s); err != nil {
				return nil, fmt.Errorf("%q is not a string", name)
			}
			text[name] = s
		}
	}
	if _, ok := members["d"]; ok {
		return nil, errors.New("it holds a private key")
	}
	var key *publicKey
	switch text["kty"] {
	case "EC":
		key, err = parseEC(text)
	case "RSA":
		key, err = parseRSA(text)
	default:
		err = fmt.Errorf("kty %q is not supported", text["kty"])
	}
	if err != nil {
		return nil, err
	}
	if alg, ok := text["alg"]; ok && alg != key.alg {
		return nil, fmt.Errorf("its alg is %q, but it goes with %s only", alg, key.alg)
	}
	return key, nil
}

func parseEC(text map[string]string) (*publicKey, error) {
	curve, alg := curveOf(text["crv"])
	if curve == nil {
		return nil, fmt.Errorf("crv %q is not supported", text["crv"])
	}
	size := (curve.Params().BitSize + 7) / 8
	point := []byte{4} // uncompressed
	for _, name := range []string{"x", "y"} {
		b, err := decode64(text[name])
		if err != nil || len(b) != size {
			return nil, fmt.Errorf("%q is not %d bytes of base64url", name, size)
		}
		point = append(point, b...)
	}
	key, err := ecdsa.ParseUncompressedPublicKey(curve, point)
	if err != nil {
		return nil, errors.New("the point is not on the curve")
	}
	return &publicKey{key, alg, thumbprintOf(key)}, nil
}

// maxModulus is the largest RSA modulus that is parsed, in bytes. It exceeds
// the limit of checkRSA, whose error is clearer.
const maxModulus = 2048

func parseRSA(text map[string]string) (*publicKey, error) {
	n, err := decode64(text["n"])
	if err != nil || len(n) == 0 || n[0] == 0 || len(n) > maxModulus {
		return nil, fmt.Errorf(`"n" is not a number of up to %d bytes in base64url without leading zeros`, maxModulus)
	}
	e, err := decode64(text["e"])
	if err != nil || len(e) == 0 || len(e) > 4 || e[0] == 0 {
		return nil, errors.New(`"e" is not a small number in base64url without leading zeros`)
	}
	key := &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(new(big.Int).SetBytes(e).Int64())}
	if err := checkRSA(key); err != nil {
		return nil, err
	}
	return &publicKey{key, "RS256", thumbprintOf(key)}, nil
}

// checkRSA applies the limits of Let's Encrypt.
func checkRSA(key *rsa.PublicKey) error {
	switch bits := key.N.BitLen(); {
	case bits < 2048:
		return fmt.Errorf("an RSA key of %d bits is too weak", bits)
	case bits > 4096:
		return fmt.Errorf("an RSA key of %d bits is too large", bits)
	case key.E != 65537:
		return fmt.Errorf("the RSA exponent is %d and not 65537", key.E)
	}
	return nil
}

// thumbprintOf returns the RFC 7638 thumbprint of a key, or "" for a kind of
// key that no account can have.
func thumbprintOf(pub crypto.PublicKey) string {
	var canonical string
	switch pub := pub.(type) {
	case *ecdsa.PublicKey:
		point, err := pub.Bytes() // 04 and the coordinates
		if err != nil {
			return ""
		}
		x, y := point[1:len(point)/2+1], point[len(point)/2+1:]
		canonical = fmt.Sprintf(`{"crv":%q,"kty":"EC","x":%q,"y":%q}`,
			pub.Curve.Params().Name, base64url.EncodeToString(x), base64url.EncodeToString(y))
	case *rsa.PublicKey:
		canonical = fmt.Sprintf(`{"e":%q,"kty":"RSA","n":%q}`,
			base64url.EncodeToString(big.NewInt(int64(pub.E)).Bytes()), base64url.EncodeToString(pub.N.Bytes()))
	default:
		return ""
	}
	sum := sha256.Sum256([]byte(canonical))
	return base64url.EncodeToString(sum[:])
}
