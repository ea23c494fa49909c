package certmgr

import (
	"crypto/tls"
	"fmt"
	"net"
	"slices"
	"strings"

	"golang.org/x/net/idna"

	"github.com/nostall/nostall/internal/text"
)

// normalizeHost returns the one form of a host name that everything in this
// package uses: lower case, A-labels, no trailing dot. The error wraps
// ErrNoServerName or ErrBadServerName. A name that is too long costs no more than
// to look at its length: a ClientHello may carry 64 KB, and the cost of IDNA grows
// with the square of a label's length.
func normalizeHost(name string) (string, error) {
	if name == "" {
		return "", &refusal{kind: ErrNoServerName,
			text: "the client sent no SNI; connect by host name, or serve such clients from tls.Config.Certificates"}
	}
	name = strings.TrimSuffix(name, ".")
	if isPlainHost(name) {
		return name, nil
	}
	if len(name) > maxNameLength || hasLongLabel(name) {
		return "", badServerName(name, fmt.Sprintf("too long for a host name (%d bytes)", len(name)), nil)
	}
	host, err := idna.Lookup.ToASCII(name)
	if err != nil {
		return "", badServerName(name, "not a valid host name", err)
	}
	// Mapping can produce dots (of fullwidth ones), and what it would refuse
	// itself (of bytes that are not UTF-8, of letters that become right-to-left
	// ones), so that what comes out is held to the same rules.
	host = strings.TrimSuffix(host, ".")
	if len(host) > maxHostLength {
		return "", badServerName(name, "too long for a host name", nil)
	}
	again, err := idna.Lookup.ToASCII(host)
	switch {
	case err != nil || again != host:
		return "", badServerName(name, "not a valid host name", err)
	case net.ParseIP(host) != nil:
		return "", badServerName(name, "an IP address", nil)
	case !strings.Contains(host, "."):
		return "", badServerName(name, "a single label", nil)
	case !validLabels(host):
		return "", badServerName(name, "not a valid host name", nil)
	}
	return host, nil
}

func badServerName(name, why string, cause error) error {
	return &refusal{kind: ErrBadServerName, host: text.OneLine(name, maxHostLength), text: why, cause: cause}
}

// maxHostLength is that of a domain name in its text form (RFC 1035, 2.3.4,
// less the root label).
const maxHostLength = 253

// What IDNA is asked to map is bounded first, because it costs the square of a
// label's length. A label that comes out has at most 63 bytes (RFC 1035, 2.3.4) and
// spends at least one of them on each character (RFC 3492), for which UTF-8 needs up
// to four.
const (
	maxNameLength  = 4 * maxHostLength
	maxLabelLength = 4 * 63
)

func hasLongLabel(name string) bool {
	for label := range strings.FieldsFuncSeq(name, isDot) {
		if len(label) > maxLabelLength {
			return true
		}
	}
	return false
}

// isDot reports whether IDNA takes r for a dot (UTS #46, section 4.5).
func isDot(r rune) bool { return r == '.' || r == '\u3002' || r == '\uff0e' || r == '\uff61' }

// isPlainHost reports whether name is in its normal form already. It is the
// fast path that spares a handshake the IDNA tables: anything that could be
// mapped or refused there (upper case, "--" in a label's third place, foreign
// scripts, all-numeric last labels as in an IPv4 address) takes the slow one.
func isPlainHost(name string) bool {
	if len(name) > maxHostLength {
		return false
	}
	start, last := 0, byte('.')
	for i := 0; i < len(name); i++ {
		c := name[i]
		switch {
		case c >= 'a' && c <= 'z' || c >= '0' && c <= '9':
		case c == '.':
			if last == '.' || last == '-' || i-start > 63 {
				return false
			}
			start = i + 1
		case c == '-':
			if last == '.' || last == '-' {
				return false
			}
		default:
			return false
		}
		last = c
	}
	return start > 0 && last != '.' && last != '-' && len(name)-start <= 63 && name[start] > '9'
}

// validLabels reports whether name consists of LDH labels (RFC 5890, 2.3.1) in
// lower case, each of 1 to 63 bytes, joined by dots.
func validLabels(name string) bool {
	if len(name) > maxHostLength {
		return false
	}
	start := 0
	for i := 0; i <= len(name); i++ {
		if i == len(name) || name[i] == '.' {
			n := i - start
			if n == 0 || n > 63 || name[start] == '-' || name[i-1] == '-' {
				return false
			}
			start = i + 1
			continue
		}
		c := name[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

// keyType is the kind of a certificate's key.
type keyType uint8

const (
	keyECDSA keyType = iota // P-256
	keyRSA                  // 2048 bits

	keyTypeCount = 2
)

func (k keyType) String() string {
	if k == keyRSA {
		return "RSA"
	}
	return "ECDSA"
}

// wanted is what a ClientHello can work with: the key type to issue, and
// whether a certificate of the other type would do.
type wanted struct {
	first keyType
	other bool
}

// types returns the acceptable key types, the preferred one first.
func (w wanted) types() []keyType {
	if !w.other {
		return []keyType{w.first}
	}
	return []keyType{w.first, 1 - w.first}
}

// keyTypesFor decides by what the client can verify. Signature schemes are
// what counts; cipher suites name a key type up to TLS 1.2 only, and a hello
// without any (TLS 1.3 only, or made by hand to warm up) supports both.
func keyTypesFor(hello *tls.ClientHelloInfo) wanted {
	rsa := supportsSchemes(hello, isRSAScheme)
	var ecdsa bool
	if offersTLS13(hello) {
		// A scheme of TLS 1.3 names the curve too (RFC 8446, 4.2.3).
		ecdsa = supportsSchemes(hello, func(s tls.SignatureScheme) bool { return s == tls.ECDSAWithP256AndSHA256 })
		if slices.ContainsFunc(hello.CipherSuites, isRSASuite) {
			// It offers TLS 1.2 as well, which may be all that the server does.
			ecdsa = ecdsa && slices.ContainsFunc(hello.CipherSuites, isECDSASuite)
		}
	} else {
		ecdsa = supportsSchemes(hello, isECDSAScheme) && offersSuite(hello, isECDSASuite) && offersP256(hello)
		rsa = rsa && offersSuite(hello, isRSASuite)
	}
	if !ecdsa {
		return wanted{first: keyRSA}
	}
	return wanted{first: keyECDSA, other: rsa}
}

func offersTLS13(hello *tls.ClientHelloInfo) bool {
	if len(hello.SupportedVersions) > 0 {
		return slices.Contains(hello.SupportedVersions, tls.VersionTLS13)
	}
	// A hello made by hand may carry suites alone: those of TLS 1.3 name it.
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

// offersP256 matters up to TLS 1.2, where the supported groups bind the
// certificate's curve as well (RFC 8422, 5.1.1).
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
