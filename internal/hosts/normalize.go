package hosts

import (
	"fmt"
	"net"
	"strings"

	"golang.org/x/net/idna"

	"github.com/nostall/nostall/internal/text"
)

// Normalize returns the normal form of a host name: lower case, A-labels, no
// trailing dot. The error is a *NameError. A name that is too long is refused
// by its length alone: a ClientHello may carry 64 KB, and the cost of IDNA
// grows with the square of a label's length.
func Normalize(name string) (string, error) {
	name, rooted := strings.CutSuffix(name, ".")
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
	// Mapping can produce dots (from full-width ones) and names that it would
	// itself refuse (from bytes that are not UTF-8, from letters that become
	// right-to-left ones). So the result must pass the same checks.
	host, dot := strings.CutSuffix(host, ".")
	if rooted && dot {
		return "", badName(name+".", "an empty label at the end", nil)
	}
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
	Err  error  // the error of IDNA, or nil
}

func badName(name, why string, cause error) *NameError {
	return &NameError{Name: text.OneLine(name, MaxLength), Why: why, Err: cause}
}

// Error is one line of bounded length.
func (e *NameError) Error() string {
	return text.OneLine(fmt.Sprintf("invalid host name %s: %s", e.Name, e.reason()), text.MaxError)
}

// reason returns Why and the cause.
func (e *NameError) reason() string {
	if e.Err == nil {
		return e.Why
	}
	return e.Why + ": " + e.Err.Error()
}

// Unwrap returns the cause, or nil.
func (e *NameError) Unwrap() error { return e.Err }

// MaxLength is the longest domain name in text form, in bytes (RFC 1035,
// section 2.3.4, without the root label).
const MaxLength = 253

// Limits on the input of IDNA, whose cost is the square of a label's length. An
// encoded label has at most 63 bytes (RFC 1035, section 2.3.4) and at least one
// byte for each character (RFC 3492), which UTF-8 encodes in up to four.
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

// isDot reports whether IDNA treats r as a dot (UTS #46, section 4.5).
func isDot(r rune) bool { return r == '.' || r == '\u3002' || r == '\uff0e' || r == '\uff61' }

// isPlain reports whether name is already in normal form. This fast path saves
// most handshakes the IDNA tables. Anything that IDNA might map or refuse
// (upper case, "--" in a label's third place, non-ASCII letters, an all-numeric
// last label as in an IPv4 address) takes the slow path.
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

// validLabels reports whether name consists of lower-case LDH labels (RFC 5890,
// section 2.3.1), each of 1 to 63 bytes, joined by dots.
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
