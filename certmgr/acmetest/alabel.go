package acmetest

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// aLabelPrefix begins labels that encode non-ASCII characters (RFC 5890,
// section 2.3.2.1).
const aLabelPrefix = "xn--"

// isALabel reports whether a lower-case label with the A-label prefix is valid
// punycode (RFC 3492, section 6.2, with its names and parameters). RFC 8555,
// section 7.1.4, tells servers to check that. The label does not end in a
// hyphen, so there is something to decode. The decoded characters are not
// checked.
func isALabel(label string) bool {
	const base, tMin, tMax = 36, 1, 26
	var n, position, length, bias int64 = 128, 0, 0, 72
	encoded := strings.TrimPrefix(label, aLabelPrefix)
	if i := strings.LastIndexByte(encoded, '-'); i >= 0 {
		length, encoded = int64(i), encoded[i+1:]
	}
	for encoded != "" {
		before := position
		for weight, k := int64(1), int64(base); ; k += base {
			digit := int64(-1)
			if encoded != "" {
				digit = int64(strings.IndexByte("abcdefghijklmnopqrstuvwxyz0123456789", encoded[0]))
			}
			// In a label of 63 bytes, no larger weight leads to a character.
			if digit < 0 || weight > unicode.MaxRune*64 {
				return false
			}
			encoded = encoded[1:]
			position += digit * weight
			t := min(max(k-bias, tMin), tMax)
			if digit < t {
				break
			}
			weight *= base - t
		}
		length++
		bias = adaptBias(position-before, length, before == 0)
		n += position / length
		position = position%length + 1
		if n > unicode.MaxRune || !utf8.ValidRune(rune(n)) {
			return false
		}
	}
	return true
}

// adaptBias is the function of RFC 3492, section 6.1.
func adaptBias(delta, length int64, first bool) int64 {
	const base, tMin, tMax, skew, damp = 36, 1, 26, 38, 700
	if first {
		delta /= damp
	} else {
		delta /= 2
	}
	delta += delta / length
	k := int64(0)
	for delta > (base-tMin)*tMax/2 {
		delta /= base - tMin
		k += base
	}
	return k + (base-tMin+1)*delta/(delta+skew)
}
