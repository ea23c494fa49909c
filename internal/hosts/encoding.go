package hosts

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// saveAsUTF8 is what to do about a file in another encoding. Windows PowerShell
// writes UTF-16 by default.
const saveAsUTF8 = `save it with the encoding "UTF-8" (in PowerShell by "Set-Content -Encoding utf8", not by ">" or ">>")`

// headSize is how much of a file encodingOf needs.
const headSize = 4

// encodingOf returns the encoding of a file that begins with head, if that is
// not UTF-8, and "" otherwise or if it cannot be told. Text begins with a byte
// order mark or an ASCII character, whose higher bytes are zero.
func encodingOf(head []byte) string {
	has := func(prefix string) bool { return strings.HasPrefix(string(head), prefix) }
	zeros := ""
	for _, b := range head {
		if b == 0 {
			zeros += "0"
		} else {
			zeros += "x"
		}
	}
	switch {
	case has("\xff\xfe\x00\x00"), has("\x00\x00\xfe\xff"), zeros == "x000", zeros == "000x":
		return "UTF-32"
	case has("\xff\xfe"), has("\xfe\xff"), strings.HasPrefix(zeros, "x0"), strings.HasPrefix(zeros, "0x"):
		return "UTF-16"
	}
	return ""
}

// whyNoText says in words why a name is no text in UTF-8, or returns "".
func whyNoText(name string) string {
	if strings.Contains(name, "\x00") {
		return "it has zero bytes, as UTF-16 has; if this is from a file, " + saveAsUTF8
	}
	for i, r := range name {
		if r != utf8.RuneError {
			continue
		}
		if _, size := utf8.DecodeRuneInString(name[i:]); size == 1 {
			return fmt.Sprintf("the byte %#x is not UTF-8; if this is from a file, %s", name[i], saveAsUTF8)
		}
	}
	return ""
}
