package certmgr

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/tls"
	"slices"

	"github.com/nostall/nostall/internal/bundle"
)

// keyClasses is a set of classes of public keys. A client can verify signatures
// by all keys of a class or by none. A certificate has the class of its key, so
// that the hot path compares two sets.
type keyClasses uint8

const (
	p256Keys keyClasses = 1 << iota
	p384Keys
	p521Keys
	rsaKeys

	ecdsaKeys = p256Keys | p384Keys | p521Keys
	allKeys   = ecdsaKeys | rsaKeys
)

// classOf returns the class of a certificate's key, and none for a key that
// bundle.Check does not accept.
func classOf(pub crypto.PublicKey) keyClasses {
	switch pub := pub.(type) {
	case *ecdsa.PublicKey:
		switch pub.Curve {
		case elliptic.P256():
			return p256Keys
		case elliptic.P384():
			return p384Keys
		case elliptic.P521():
			return p521Keys
		}
	case *rsa.PublicKey:
		return rsaKeys
	}
	return 0
}

// classOfType returns the class of keys of a type.
func classOfType(kt bundle.KeyType) keyClasses {
	switch kt {
	case bundle.P256:
		return p256Keys
	case bundle.P384:
		return p384Keys
	}
	return rsaKeys
}

// classesOf returns the classes of an algorithm's keys.
func classesOf(alg bundle.Algorithm) keyClasses {
	if alg == bundle.RSA {
		return rsaKeys
	}
	return ecdsaKeys
}

// verifiable returns the keys that a client can verify, by what its hello says.
// Signature schemes decide. Cipher suites name an algorithm only up to TLS 1.2,
// and a hello without any (TLS 1.3 only, or hand-made for a warm-up) supports
// all. A hello that nothing fits counts as one for RSA, as with autocert.
func verifiable(hello *tls.ClientHelloInfo) keyClasses {
	var can keyClasses
	if offersTLS13(hello) {
		can = bySchemes(hello, classesOfScheme13)
		if slices.ContainsFunc(hello.CipherSuites, isRSASuite) && !slices.ContainsFunc(hello.CipherSuites, isECDSASuite) {
			can &^= ecdsaKeys // it offers TLS 1.2 too, which may be the server's only version
		}
	} else {
		can = bySchemes(hello, classesOfScheme12) & byGroups(hello) & bySuites(hello)
	}
	if can == 0 {
		return rsaKeys
	}
	return can
}

func offersTLS13(hello *tls.ClientHelloInfo) bool {
	if len(hello.SupportedVersions) > 0 {
		return slices.Contains(hello.SupportedVersions, tls.VersionTLS13)
	}
	// A hand-made hello may have only suites; those of TLS 1.3 reveal the
	// version.
	return slices.ContainsFunc(hello.CipherSuites, func(id uint16) bool { return id>>8 == 0x13 })
}

// bySchemes returns the keys that the hello's signature schemes are for.
func bySchemes(hello *tls.ClientHelloInfo, classesOf func(tls.SignatureScheme) keyClasses) keyClasses {
	if hello.SignatureSchemes == nil {
		return allKeys
	}
	var can keyClasses
	for _, s := range hello.SignatureSchemes {
		can |= classesOf(s)
	}
	return can
}

// classesOfScheme13 returns the keys that a scheme of TLS 1.3 is for: it includes
// the curve (RFC 8446, section 4.2.3), and RSA signatures have PSS. PKCS #1 is
// only for signatures of CAs.
func classesOfScheme13(s tls.SignatureScheme) keyClasses {
	switch s {
	case tls.ECDSAWithP256AndSHA256:
		return p256Keys
	case tls.ECDSAWithP384AndSHA384:
		return p384Keys
	case tls.ECDSAWithP521AndSHA512:
		return p521Keys
	case tls.PSSWithSHA256, tls.PSSWithSHA384, tls.PSSWithSHA512:
		return rsaKeys
	}
	return 0
}

// classesOfScheme12 is the same up to TLS 1.2, where a scheme is a hash and an
// algorithm.
func classesOfScheme12(s tls.SignatureScheme) keyClasses {
	switch s {
	case tls.ECDSAWithP256AndSHA256, tls.ECDSAWithP384AndSHA384, tls.ECDSAWithP521AndSHA512, tls.ECDSAWithSHA1:
		return ecdsaKeys
	case tls.PKCS1WithSHA256, tls.PKCS1WithSHA384, tls.PKCS1WithSHA512, tls.PKCS1WithSHA1:
		return rsaKeys
	}
	return classesOfScheme13(s)
}

// byGroups returns the keys that the hello's supported groups allow. Up to TLS
// 1.2 they also restrict the certificate's curve (RFC 8422, section 5.1.1).
func byGroups(hello *tls.ClientHelloInfo) keyClasses {
	if hello.SupportedCurves == nil {
		return allKeys
	}
	can := rsaKeys
	for _, group := range hello.SupportedCurves {
		switch group {
		case tls.CurveP256:
			can |= p256Keys
		case tls.CurveP384:
			can |= p384Keys
		case tls.CurveP521:
			can |= p521Keys
		}
	}
	return can
}

// bySuites returns the keys that the hello's cipher suites of TLS 1.2 are for.
func bySuites(hello *tls.ClientHelloInfo) keyClasses {
	if len(hello.CipherSuites) == 0 {
		return allKeys
	}
	var can keyClasses
	if slices.ContainsFunc(hello.CipherSuites, isECDSASuite) {
		can |= ecdsaKeys
	}
	if slices.ContainsFunc(hello.CipherSuites, isRSASuite) {
		can |= rsaKeys
	}
	return can
}

func isECDSASuite(id uint16) bool {
	switch id {
	case tls.TLS_ECDHE_ECDSA_WITH_RC4_128_SHA,
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA,
		tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA,
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256,
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
		tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256:
		return true
	}
	return false
}

func isRSASuite(id uint16) bool {
	switch id {
	case tls.TLS_RSA_WITH_RC4_128_SHA,
		tls.TLS_RSA_WITH_3DES_EDE_CBC_SHA,
		tls.TLS_RSA_WITH_AES_128_CBC_SHA,
		tls.TLS_RSA_WITH_AES_256_CBC_SHA,
		tls.TLS_RSA_WITH_AES_128_CBC_SHA256,
		tls.TLS_RSA_WITH_AES_128_GCM_SHA256,
		tls.TLS_RSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_ECDHE_RSA_WITH_RC4_128_SHA,
		tls.TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA,
		tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA,
		tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA,
		tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256,
		tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
		tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256:
		return true
	}
	return false
}
