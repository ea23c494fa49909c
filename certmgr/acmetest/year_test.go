package acmetest_test

import (
	"crypto/tls"
	"go/ast"
	"go/doc/comment"
	"go/parser"
	"go/token"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
)

func TestYearOfRenewals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := acmetest.NewMemoryServer() // inside the bubble
		defer ca.Close()
		manager := &certmgr.Manager{
			Prompt: certmgr.AcceptTOS,
			Hosts:  certmgr.MustAllowlist("www.example.com"),
			Client: &acme.Client{DirectoryURL: ca.URL, HTTPClient: ca.Client()},
		}
		defer manager.Close()
		ca.Resolve("www.example.com", acmetest.Target{TLSConfig: manager.TLSConfig()})

		for day := range 365 {
			cert, err := manager.GetCertificate(&tls.ClientHelloInfo{ServerName: "www.example.com"})
			if err != nil {
				t.Fatalf("day %d: %v\n%v", day, err, ca) // prints the log of requests
			}
			if left := time.Until(cert.Leaf.NotAfter); left < 28*24*time.Hour {
				t.Fatalf("day %d: not renewed, %v left\n%v", day, left, ca)
			}
			time.Sleep(24 * time.Hour) // virtual
		}
		// 90 days each, renewed with 30 days left
		if n := len(ca.IssuedFor("www.example.com")); n != 7 {
			t.Errorf("%d certificates in a year, want 7", n)
		}
	})
}

// The code in the package's documentation is TestYearOfRenewals.
func TestDocumentedYearIsTheTest(t *testing.T) {
	const section, name = "A year of renewals", "TestYearOfRenewals"
	doc, err := parser.ParseFile(token.NewFileSet(), "doc.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	var heading, documented string
	for _, block := range new(comment.Parser).Parse(doc.Doc.Text()).Content {
		switch block := block.(type) {
		case *comment.Heading:
			heading = string(block.Text[0].(comment.Plain))
		case *comment.Code:
			if heading == section {
				documented += block.Text
			}
		}
	}

	source, err := os.ReadFile("year_test.go")
	if err != nil {
		t.Fatal(err)
	}
	positions := token.NewFileSet()
	file, err := parser.ParseFile(positions, "year_test.go", source, 0)
	if err != nil {
		t.Fatal(err)
	}
	var tested string
	for _, decl := range file.Decls {
		if f, ok := decl.(*ast.FuncDecl); ok && f.Name.Name == name {
			tested = string(source[positions.Position(f.Pos()).Offset:positions.Position(f.End()).Offset]) + "\n"
		}
	}
	if documented != tested {
		t.Errorf("doc.go, section %q:\n%s\nwant %s:\n%s", section, documented, name, tested)
	}
}
