// Package columns fits the output of the examples into the width of a terminal.
package columns

import (
	"strings"
	"unicode/utf8"
)

// Width is the number of columns: every terminal has as many.
const Width = 80

// Wrap breaks text into lines of at most Width columns. All but the first begin
// with indent. It breaks at spaces, and words that are too long after a comma, a
// slash or an ampersand, or else anywhere. Nothing is left out but the spaces at
// which it breaks. first is the column at which the text begins.
func Wrap(text, indent string, first int) string {
	var b strings.Builder
	column := first
	width := utf8.RuneCountInString(indent)
	newLine := func() {
		b.WriteString("\n" + indent)
		column = width
	}
	for word := range strings.SplitAfterSeq(text, " ") {
		bare := utf8.RuneCountInString(strings.TrimSuffix(word, " "))
		if column+bare > Width && column > max(width, first) && width+bare <= Width {
			newLine()
		}
		for {
			room := Width - column
			n := utf8.RuneCountInString(word)
			if n <= room || n == room+1 && strings.HasSuffix(word, " ") {
				break
			}
			if room <= 0 && column > width {
				newLine()
				continue
			}
			head := breakAt(word, room)
			b.WriteString(head)
			word = word[len(head):]
			newLine()
		}
		b.WriteString(word)
		column += utf8.RuneCountInString(word)
	}
	lines := strings.Split(b.String(), "\n")
	for i, line := range lines {
		lines[i] = strings.TrimRight(line, " ")
	}
	return strings.Join(lines, "\n")
}

// breakAt returns the beginning of a word, of at most n characters, and of at
// least one.
func breakAt(word string, n int) string {
	end := 0
	for range max(n, 1) {
		_, size := utf8.DecodeRuneInString(word[end:])
		end += size
	}
	if i := strings.LastIndexAny(word[:end], ",/&"); i > 0 {
		return word[:i+1]
	}
	return word[:end]
}
