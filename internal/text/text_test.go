package text_test

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/nostall/nostall/internal/text"
)

// pause is like a CA's link to resume a paused name.
var pause = "https://ca.example/sfe/v1/unpause?jwt=" + strings.Repeat("eyJhbGciOiJIUzI1NiJ9.", 38)

func TestLinksAreWholeInALine(t *testing.T) {
	link := strings.TrimSuffix(pause, ".")
	filler := strings.Repeat("x", 50)
	for name, tt := range map[string]struct{ in, want string }{
		"no link":         {strings.Repeat("x", 99), strings.Repeat("x", 37) + "..."},
		"fits":            {"visit " + link + ", please", "visit " + link + ", please"},
		"before the cut":  {"visit " + link + " " + filler, "visit " + link + " " + filler[:30] + "..."},
		"after the cut":   {filler + " " + link + " to resume", filler[:37] + "... " + link},
		"two":             {"http://a.example and (https://b.example/c).", "http://a.example and (https://b.example/c)."},
		"too long":        {"see " + pause + pause + link, fmt.Sprintf("see (a link of %d bytes)", 2*len(pause)+len(link))},
		"no link at all":  {"http and https:// and http:", "http and https:// and http:"},
		"not printable":   {"https://a.example/\x1b[2J", `https://a.example/\x1b[2J`},
		"quoted":          {`href="https://a.example/" x`, `href="https://a.example/" x`},
		"many, then none": {strings.Repeat("http://a.example/ ", 200), ""},
	} {
		got := text.Line(tt.in, 40)
		if tt.want != "" && got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
		if again := text.Line(got, 40); again != got {
			t.Errorf("%s: %q becomes %q", name, got, again)
		}
		if len(got) > 40+text.MaxLinks {
			t.Errorf("%s: %d bytes", name, len(got))
		}
	}
}

// A link that does not fit is left out: its beginning would lead elsewhere.
func TestOneLineDoesNotCutLinks(t *testing.T) {
	for in, want := range map[string]string{
		"visit https://ca.example/unpause/eyJhbGciOi now":   "visit...",
		"at https://ca.example (https://ca.example/long)":   "at https://ca.example...",
		"https://ca.example/unpause/eyJhbGciOiJIUzI1NiJ9":   "https://ca.example/unpause/...",
		"at https://ca.example/ab is what was asked for it": "at https://ca.example/ab is...",
	} {
		if got := text.OneLine(in, 30); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func FuzzLine(f *testing.F) {
	f.Add("a\x00 http://b.example/"+pause+"\n", 10)
	f.Add("https://", math.MaxInt)
	f.Add(strings.Repeat("http://a ", 500)+"\xff", 100)
	f.Fuzz(func(t *testing.T, s string, limit int) {
		line, one := text.Line(s, limit), text.OneLine(s, limit)
		if !utf8.ValidString(line) || strings.ContainsAny(line, "\n\x00") || limit < 1<<30 && len(line) > max(limit, 0)+text.MaxLinks {
			t.Fatalf("%d bytes: %q", len(line), line)
		}
		if !utf8.ValidString(one) || len(one) > max(limit, 0) || limit > 0 && limit < 1<<30 && len(one) == len(line) && one != line {
			t.Fatalf("%q, %q", one, line)
		}
	})
}

// Lines of errors become clauses.
func TestErrorsOfSeveralLinesAreOneLine(t *testing.T) {
	a, b := errors.New("a"), errors.New("b")
	for _, tt := range []struct {
		err  error
		want string
	}{
		{nil, "<nil>"},
		{errors.Join(a, b), "a; b"},
		{fmt.Errorf("x: %w", errors.Join(a, fmt.Errorf("y: %w", errors.Join(b, a)))), "x: a; y: b; a"},
		{errors.New("subproblems:\n\tone\n\ttwo\r\n"), "subproblems: one; two"},
		{text.Join(a, nil, errors.Join(b, a)), "a; b; a"},
		{text.Join(a), "a"},
	} {
		if got := text.Of(tt.err); got != tt.want {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
	if err := text.Join(nil, nil); err != nil {
		t.Error("an error of none")
	}
	if err := text.Join(a, b); !errors.Is(err, b) || err.Error() != "a; b" {
		t.Errorf("%v", err)
	}
}
