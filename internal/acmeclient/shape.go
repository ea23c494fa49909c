package acmeclient

import (
	"bytes"
	"fmt"
)

// Limits on the body of a response, checked before it is parsed. The parsers of
// this package and of x/crypto/acme go over it several times.
const (
	// maxNesting is how deep a JSON document nests. A subproblem's identifier
	// in an order is the deepest of RFC 8555, with 5.
	maxNesting = 16

	// maxValues is how many members and elements a JSON document has. An order
	// for 100 names has some 300.
	maxValues = 2000

	// maxBlocks is how many PEM blocks a chain has. x/crypto/acme parses no more
	// than five.
	maxBlocks = 16
)

// limitError is a response that exceeds a limit.
type limitError struct {
	what  string // "is larger than 5 bytes"
	limit int64
	unit  string
}

func (e *limitError) Error() string {
	return fmt.Sprintf("the answer %s %d %s: this may not be an ACME server, check the directory URL", e.what, e.limit, e.unit)
}

// checkShape returns an error if a body is a JSON document or a chain with more
// in it than any CA sends. It looks at each byte once.
func checkShape(body []byte) error {
	trimmed := bytes.TrimLeft(body, " \t\r\n")
	if len(trimmed) > 0 && (trimmed[0] == '{' || trimmed[0] == '[') {
		return checkJSON(trimmed)
	}
	if bytes.Count(body, []byte("-----BEGIN")) > maxBlocks {
		return &limitError{"has more than", maxBlocks, "certificates"}
	}
	return nil
}

// checkJSON counts what parsing will make of a document, which need not be
// valid.
func checkJSON(doc []byte) error {
	depth, values, inString := 0, 0, false
	for i := 0; i < len(doc); i++ {
		c := doc[i]
		switch {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			depth++
			values++
		case c == '}' || c == ']':
			depth--
		case c == ',':
			values++
		}
		if depth > maxNesting {
			return &limitError{"nests deeper than", maxNesting, "levels"}
		}
		if values > maxValues {
			return &limitError{"has more than", maxValues, "values"}
		}
	}
	return nil
}
