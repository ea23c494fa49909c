package text

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// MaxLinks is how many bytes of links a Line may have besides its other text. A
// CA's link to resume a paused name has some 800 bytes, and is of no use unless
// it is whole.
const MaxLinks = 2048

// Line is OneLine, but does not count links against limit. It keeps each of
// them whole, also those in the part that is cut, as far as they have no more
// than MaxLinks bytes in all. If limit is not positive, the result is empty.
func Line(s string, limit int) string {
	if limit <= 0 {
		return ""
	}
	if len(s)/4-MaxLinks > limit { // 4*limit may overflow
		s = (&Room{4 * limit, MaxLinks}).Take(s, 4*limit)
	}
	return (&Room{limit, MaxLinks}).Take(escape(s), limit)
}

// Room is how many bytes of text and links may still be taken of the texts that
// belong together.
type Room struct{ Text, Links int }

// Take returns s in at most limit bytes and its links, whole, as far as there
// is room for them. A link that does not fit is replaced by a remark.
func (r *Room) Take(s string, limit int) string {
	limit = max(0, min(limit, r.Text))
	left, full := limit, false
	var b strings.Builder
	add := func(plain string) {
		switch {
		case full:
		case len(plain) <= left:
			b.WriteString(plain)
			left -= len(plain)
		default:
			b.WriteString(cut(plain, left))
			left, full = 0, true
		}
	}
	for s != "" {
		from, to := findLink(s)
		add(s[:from])
		link := s[from:to]
		s = s[to:]
		switch {
		case link == "":
		case len(link) >= r.Links: // and a space
			add(fmt.Sprintf("(a link of %d bytes)", len(link)))
		default:
			if full {
				b.WriteByte(' ')
			}
			b.WriteString(link)
			r.Links -= len(link) + 1
		}
	}
	r.Text -= limit - left
	return b.String()
}

// findLink returns where the first link in s begins and ends, or twice the end
// of s.
func findLink(s string) (from, to int) {
	for off := 0; ; {
		i := strings.Index(s[off:], "http")
		if i < 0 {
			return len(s), len(s)
		}
		from = off + i
		off = from + len("http")
		rest := strings.TrimPrefix(s[off:], "s")
		if !strings.HasPrefix(rest, "://") {
			continue
		}
		end := strings.IndexFunc(rest, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune("\"<>\\^`{|}", r) })
		if end < 0 {
			end = len(rest)
		}
		link := strings.TrimRight(rest[:end], ".,;:!?')]")
		if len(link) > len("://") {
			return from, len(s) - len(rest) + len(link)
		}
	}
}

// cut returns the beginning of s and a mark in at most limit bytes. It splits
// neither a rune nor a link, unless s begins with that.
func cut(s string, limit int) string {
	const mark = "..."
	if limit <= len(mark) {
		return mark[:max(limit, 0)]
	}
	n := limit - len(mark)
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	for off := 0; off < n; {
		from, to := findLink(s[off:])
		from, to = off+from, off+to
		if 0 < from && from < n && n < to {
			return strings.TrimRight(s[:from], " (") + mark
		}
		off = max(to, off+1)
	}
	return s[:n] + mark
}
