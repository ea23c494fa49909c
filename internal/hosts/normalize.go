package hosts

import (
	"fmt"
	"net"
	"strings"

	"golang.org/x/net/idna"

	"github.com/nostall/nostall/internal/text"
)

// Normalize returns the one form of a host name that everything uses: lower case,
// A-labels, no trailing dot. The error is a *NameError. A name that is too long
// costs no more than to look at its length: a ClientHello may carry 64 KB, and the
// cost of IDNA grows with the square of a label's length.
func Normalize(name string) (string, error) {
	name = strings.TrimSuffix(name, ".")
	if isPlain(name) {
		return name, nil
	}
	if len(name) > maxMapped || hasLongLabel(name) {
		return "", badName(name, fmt.Sprintf("too long for a host name (%d bytes)", len(name)), nil)
	}
	host, err := idna.Lookup.ToASCII(name)
	if err != nil {
		return "", badName(name, "not a valid host name", err)
	}
	// Mapping can produce dots (of fullwidth ones), and what it would refuse
	// itself (of bytes that are not UTF-8, of letters that become right-to-left
	// ones), so that what comes out is held to the same rules.
	host = strings.TrimSuffix(host, ".")
	if len(host) > MaxLength {
		return "", badName(name, "too long for a host name", nil)
	}
	again, err := idna.Lookup.ToASCII(host)
	switch {
	case err != nil || again != host:
		return "", badName(name, "not a valid host name", err)
	case net.ParseIP(host) != nil:
		return "", badName(name, "an IP address", nil)
	case !strings.Contains(host, "."):
		return "", badName(name, "a single label", nil)
	case !validLabels(host):
		return "", badName(name, "not a valid host name", nil)
	}
	return host, nil
}

// NameError says why a name is not a host name that a public CA could certify.
type NameError struct {
	Name string // the name, as one line of bounded length
	Why  string // in words
	Err  error  // what IDNA has against it, or nil
}

func badName(name, why string, cause error) *NameError {
	return &NameError{Name: text.OneLine(name, MaxLength), Why: why, Err: cause}
}

// Error is one line of bounded length.
func (e *NameError) Error() string {
	return text.OneLine(fmt.Sprintf("invalid host name %s: %s", e.Name, e.reason()), text.MaxError)
}

// reason is Why and the cause.
func (e *NameError) reason() string {
	if e.Err == nil {
		return e.Why
	}
	return e.Why + ": " + e.Err.Error()
}

// Unwrap returns the cause, or nil.
func (e *NameError) Unwrap() error { return e.Err }

// MaxLength is that of a domain name in its text form, in bytes (RFC 1035, 2.3.4,
// less the root label).
const MaxLength = 253

// What IDNA is asked to map is bounded first, because it costs the square of a
// label's length. A label that comes out has at most 63 bytes (RFC 1035, 2.3.4) and
// spends at least one of them on each character (RFC 3492), for which UTF-8 needs up
// to four.
const (
	maxMapped      = 4 * MaxLength
	maxMappedLabel = 4 * 63
)

func hasLongLabel(name string) bool {
	for label := range strings.FieldsFuncSeq(name, isDot) {
		if len(label) > maxMappedLabel {
			return true
		}
	}
	return false
}

// isDot reports whether IDNA takes r for a dot (UTS #46, section 4.5).
func isDot(r rune) bool { return r == '.' || r == '\u3002' || r == '\uff0e' || r == '\uff61' }

// isPlain reports whether name is in its normal form already. It is the
// fast path that spares a handshake the IDNA tables: anything that could be
// mapped or refused there (upper case, "--" in a label's third place, foreign
// scripts, all-numeric last labels as in an IPv4 address) takes the slow one.
func isPlain(name string) bool {
	if len(name) > MaxLength {
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
	if len(name) > MaxLength {
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
