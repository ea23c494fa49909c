package guard

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// A snippet is Go code in a document, with the comment before it that names its
// source: a file, or a top-level declaration of one after "#".
//
//	<!-- examples/server/main.go -->
//	```go
type snippet struct {
	source string // empty if there is no such comment
	code   string
}

// goFence begins Go code in Markdown, however it is written.
var goFence = regexp.MustCompile("^\\s*(?:```+|~~~+)\\s*(?i:go|golang)\\b")

// sourceComment is the line before a snippet.
var sourceComment = regexp.MustCompile(`^<!-- ([\w/.-]+\.go(?:#\w+)?) -->$`)

func snippets(text string) []snippet {
	var all []snippet
	lines := strings.SplitAfter(text, "\n")
	for i := 0; i < len(lines); i++ {
		if !goFence.MatchString(lines[i]) {
			continue
		}
		var s snippet
		if i > 0 {
			if m := sourceComment.FindStringSubmatch(strings.TrimSpace(lines[i-1])); m != nil {
				s.source = m[1]
			}
		}
		for i++; i < len(lines) && strings.TrimSpace(lines[i]) != "```"; i++ {
			s.code += lines[i]
		}
		all = append(all, s)
	}
	return all
}

// Whoever copies Go code from a document gets code that CI compiles and runs:
// each snippet is a file of the repository, or a declaration of one, byte for
// byte.
func TestSnippetsAreFiles(t *testing.T) {
	count := 0
	for name, text := range documents(t) {
		for _, s := range snippets(text) {
			count++
			file, _, _ := strings.Cut(s.source, "#")
			if s.source == "" {
				t.Errorf("%s: the line before this Go code does not name its source, such as <!-- examples/server/main.go -->:\n%s",
					name, s.code)
				continue
			}
			if inAbsentModule(file) {
				continue
			}
			want, err := sourceOf(s.source)
			if err != nil {
				t.Errorf("%s: %v", name, err)
			} else if s.code != want {
				t.Errorf("%s: this is not what %s has now:\n%s", name, s.source, s.code)
			}
		}
	}
	if count < 5 {
		t.Errorf("the documents have only %d pieces of Go code", count)
	}
}

// sourceOf returns the file, or the declaration of it, without its comment.
func sourceOf(source string) (string, error) {
	name, decl, ok := strings.Cut(source, "#")
	b, err := os.ReadFile(filepath.Join("..", "..", filepath.FromSlash(name)))
	if err != nil {
		return "", err
	}
	text := strings.ReplaceAll(string(b), "\r\n", "\n")
	if !ok {
		return text, nil
	}
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, name, text, parser.SkipObjectResolution)
	if err != nil {
		return "", err
	}
	for _, d := range file.Decls {
		if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == decl {
			return text[fset.Position(f.Pos()).Offset:fset.Position(f.End()).Offset] + "\n", nil
		}
	}
	return "", errors.New(name + " has no function " + decl)
}

func TestSnippets(t *testing.T) {
	const text = "a\n<!-- x/y.go#f -->\n```go\nfunc f() {}\n```\n\n~~~ golang\nb\n```\n```sh\nls\n```\n```diff\n-go\n```\n"
	got := snippets(text)
	want := []snippet{{"x/y.go#f", "func f() {}\n"}, {"", "b\n"}}
	if len(got) != len(want) || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("found %q, want %q", got, want)
	}
}

// The line that README tells users of autocert to change is that of
// examples/swap.
func TestReadmeImportsAsTheExampleDoes(t *testing.T) {
	const example = "examples/swap/main.go"
	_, diff, _ := strings.Cut(documents(t)["README.md"], "```diff\n")
	diff, _, ok := strings.Cut(diff, "```\n")
	old, line, _ := strings.Cut(diff, "\n")
	if !ok || old != "-\t\"golang.org/x/crypto/acme/autocert\"" || !strings.HasPrefix(line, "+\t") {
		t.Fatalf("README.md shows another change than that of one import:\n%s", diff)
	}
	source, err := fs.ReadFile(os.DirFS(filepath.Join("..", "..")), path.Clean(example))
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("this is the core module alone")
	}
	if line = strings.TrimSpace(line[1:]); err != nil || !strings.Contains(string(source), "\n\t"+line) {
		t.Errorf("%s does not have the import %s, error %v", example, line, err)
	}
}
