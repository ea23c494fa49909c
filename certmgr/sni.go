package certmgr

import (
	"crypto/tls"
	"errors"
	"slices"

	"github.com/nostall/nostall/internal/bundle"
	"github.com/nostall/nostall/internal/hosts"
)

// What it means that there is no name, by who should have given it.
const (
	noSNI        = "the client sent no SNI; connect by host name, or serve such clients from tls.Config.Certificates"
	noHostHeader = "the request has no Host header"
	noHost       = "the host is empty"
)

// normalizeHost returns the normal form of a host name, which everything in
// this package uses; see hosts.Normalize. The error wraps ErrNoServerName,
// whose text for an empty name is missing, or ErrBadServerName.
func normalizeHost(name, missing string) (string, error) {
	host, err := hosts.Normalize(name)
	if err != nil {
		return "", refuseName(name, missing, err)
	}
	return host, nil
}

// normalizeAny is normalizeHost, and returns the normal form of an IP address
// too; see hosts.NormalizeAny. It is for names that do not come from a
// ClientHello.
func normalizeAny(name, missing string) (string, error) {
	host, err := hosts.NormalizeAny(name)
	if err != nil {
		return "", refuseName(name, missing, err)
	}
	return host, nil
}

func refuseName(name, missing string, err error) error {
	if name == "" {
		return &refusal{kind: ErrNoServerName, text: missing}
	}
	var bad *hosts.NameError
	if !errors.As(err, &bad) {
		return &refusal{kind: ErrBadServerName, cause: err}
	}
	return &refusal{kind: ErrBadServerName, host: bad.Name, text: bad.Why, cause: bad.Err}
}

// keyTypePrefs is what a client supports: the key type to issue, and whether a
// certificate of the other type would do.
type keyTypePrefs struct {
	first bundle.Algorithm
	other bool
}

// types returns the acceptable key types, the preferred one first.
func (p keyTypePrefs) types() []bundle.Algorithm {
	if !p.other {
		return []bundle.Algorithm{p.first}
	}
	return []bundle.Algorithm{p.first, 1 - p.first}
}

// keyTypesFor returns the key types that the client can verify. Signature
// schemes decide; cipher suites name a key type only up to TLS 1.2, and a hello
// without any (TLS 1.3 only, or hand-made for a warm-up) supports both.
func keyTypesFor(hello *tls.ClientHelloInfo) keyTypePrefs {
	rsa := supportsSchemes(hello, isRSAScheme)
	var ecdsa bool
	if offersTLS13(hello) {
		// A TLS 1.3 scheme includes the curve (RFC 8446, section 4.2.3).
		ecdsa = supportsSchemes(hello, func(s tls.SignatureScheme) bool { return s == tls.ECDSAWithP256AndSHA256 })
		if slices.ContainsFunc(hello.CipherSuites, isRSASuite) {
			// It offers TLS 1.2 too, which may be the server's only version.
			ecdsa = ecdsa && slices.ContainsFunc(hello.CipherSuites, isECDSASuite)
		}
	} else {
		ecdsa = supportsSchemes(hello, isECDSAScheme) && offersSuite(hello, isECDSASuite) && offersP256(hello)
		rsa = rsa && offersSuite(hello, isRSASuite)
	}
	if !ecdsa {
		return keyTypePrefs{first: bundle.RSA}
	}
	return keyTypePrefs{first: bundle.ECDSA, other: rsa}
}

func offersTLS13(hello *tls.ClientHelloInfo) bool {
	if len(hello.SupportedVersions) > 0 {
		return slices.Contains(hello.SupportedVersions, tls.VersionTLS13)
	}
	// A hand-made hello may have only suites; those of TLS 1.3 reveal the
	// version.
	return slices.ContainsFunc(hello.CipherSuites, func(id uint16) bool { return id>>8 == 0x13 })
}

func supportsSchemes(hello *tls.ClientHelloInfo, is func(tls.SignatureScheme) bool) bool {
	return hello.SignatureSchemes == nil || slices.ContainsFunc(hello.SignatureSchemes, is)
}

func isECDSAScheme(s tls.SignatureScheme) bool {
	switch s {
	case tls.ECDSAWithP256AndSHA256, tls.ECDSAWithP384AndSHA384, tls.ECDSAWithP521AndSHA512, tls.ECDSAWithSHA1:
		return true
	}
	return false
}

func isRSAScheme(s tls.SignatureScheme) bool {
	switch s {
	case tls.PKCS1WithSHA256, tls.PKCS1WithSHA384, tls.PKCS1WithSHA512, tls.PKCS1WithSHA1,
		tls.PSSWithSHA256, tls.PSSWithSHA384, tls.PSSWithSHA512:
		return true
	}
	return false
}

// offersP256 matters up to TLS 1.2, where the supported groups also restrict
// the certificate's curve (RFC 8422, section 5.1.1).
func offersP256(hello *tls.ClientHelloInfo) bool {
	return hello.SupportedCurves == nil || slices.Contains(hello.SupportedCurves, tls.CurveP256)
}

func offersSuite(hello *tls.ClientHelloInfo, is func(uint16) bool) bool {
	return len(hello.CipherSuites) == 0 || slices.ContainsFunc(hello.CipherSuites, is)
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
