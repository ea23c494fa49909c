package guard

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/nostall/nostall/internal/guard/shape"
)

// testName is a test as a comment names it.
var testName = regexp.MustCompile(`\bTest[A-Z]\w*`)

// notTests are names in comments that look like those of tests, with what they
// are.
var notTests = tolerated{}

// A test named in a comment exists, above all in the list of the invariants of
// package certmgr and of their tests. A renamed test must be renamed there too.
func TestCommentsNameTestsThatExist(t *testing.T) {
	declared, named := make(map[string]bool), make(map[string]string)
	for name, file := range parsedTests(t) {
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok {
				declared[f.Name.Name] = true
			}
		}
		for _, group := range file.Comments {
			for _, test := range testName.FindAllString(group.Text(), -1) {
				named[test] = name
			}
		}
	}
	if len(named) < 20 { // those of the list alone are more
		t.Errorf("only %d tests are named in comments: where is the list of invariants?", len(named))
	}
	found := make(map[string]string)
	for test, name := range named {
		if !declared[test] {
			found[test] = "is named in a comment in " + name + ", but there is no such test: say what it is called now"
		}
	}
	notTests.check(t, "notTests", found)
}

// silentTests are tests without an assertion, by directory and name, with why.
var silentTests = tolerated{}

// Each test can fail. One that only has to survive says so by an assertion
// about what is left.
func TestTestsCanFail(t *testing.T) {
	found := make(map[string]string)
	byDir := make(map[string][]*ast.FuncDecl)
	for name, file := range parsedTests(t) {
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Body != nil {
				byDir[path.Dir(name)] = append(byDir[path.Dir(name)], f)
			}
		}
	}
	for dir, functions := range byDir {
		failing := failingFunctions(functions)
		for _, f := range functions {
			name := f.Name.Name
			if f.Recv == nil && isTest(name) && !failing[name] {
				found[dir+"."+name] = "asserts nothing: t.Error and t.Fatal are nowhere in it, nor in what it calls here"
			}
		}
	}
	silentTests.check(t, "silentTests", found)
}

// insiders are test files of certmgr that are part of the package although they
// use nothing unexported, with why.
var insiders = tolerated{}

// Scenarios of certmgr are tests from outside: what they tell is true for
// users, and code can move without them. Tests of one part stay inside, with
// it.
func TestScenariosAreOutside(t *testing.T) {
	p, err := shape.LoadWithTests(t.Context(), filepath.Join("..", ".."), module+"/certmgr")
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]string)
	_, others := p.WhiteBoxTests()
	for _, name := range others {
		found[name] = "uses nothing unexported: make it part of package certmgr_test"
	}
	insiders.check(t, "insiders", found)
}

func isTest(name string) bool {
	return name != "TestMain" && (testName.MatchString(name) || strings.HasPrefix(name, "Fuzz"))
}

// parsedTests returns the test files of the repository by path.
func parsedTests(t *testing.T) map[string]*ast.File {
	t.Helper()
	files := make(map[string]*ast.File)
	for name, source := range goFiles(t) {
		if !strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, source, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files[name] = file
	}
	return files
}

// failingFunctions returns the names of those functions and methods that can
// make a test fail, themselves or by what they call. It goes by names alone: of
// two methods with one name both count. Exported methods do not count: they are
// those of caches and transports, which production code calls.
func failingFunctions(functions []*ast.FuncDecl) map[string]bool {
	failing, declared := make(map[string]bool), make(map[string]bool)
	for _, f := range functions {
		declared[f.Name.Name] = true
	}
	for changed := true; changed; {
		changed = false
		for _, f := range functions {
			name := f.Name.Name
			if f.Recv != nil && f.Name.IsExported() || failing[name] || !callsOne(f.Body, failing, declared) {
				continue
			}
			failing[name], changed = true, true
		}
	}
	return failing
}

// callsOne reports whether body fails a test, calls one of the functions that
// do, or hands its t to an exported function that the tests do not declare,
// which has the say.
func callsOne(body ast.Node, failing, declared map[string]bool) bool {
	found := false
	ast.Inspect(body, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return !found
		}
		switch f := call.Fun.(type) {
		case *ast.Ident:
			found = found || failing[f.Name] || ast.IsExported(f.Name) && firstIsT(call.Args) && !declared[f.Name]
		case *ast.SelectorExpr:
			switch f.Sel.Name {
			case "Error", "Errorf", "Fatal", "Fatalf":
				pkg, ok := f.X.(*ast.Ident)
				found = found || len(call.Args) > 0 && !(ok && pkg.Name == "fmt") // and neither makes an error nor asks for its text
			case "Fail", "FailNow":
				found = true
			case "Test": // of synctest
			default:
				found = found || failing[f.Sel.Name] || firstIsT(call.Args)
			}
		}
		return !found
	})
	return found
}

func firstIsT(args []ast.Expr) bool {
	if len(args) == 0 {
		return false
	}
	id, ok := args[0].(*ast.Ident)
	return ok && id.Name == "t"
}
