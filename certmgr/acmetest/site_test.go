package acmetest_test

import (
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
)

// broken is the environment variable that breaks the server of TestSite.
const broken = "ACMETEST_BROKEN_SITE"

// newManager and site stand for the server of a reader of the documents.
func newManager(client *acme.Client) *certmgr.Manager {
	hosts := certmgr.MustAllowlist("example.com")
	if os.Getenv(broken) == "list" {
		hosts.Remove("example.com")
	}
	return &certmgr.Manager{Prompt: certmgr.AcceptTOS, Hosts: hosts, Client: client}
}

var site = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
	if os.Getenv(broken) == "handler" {
		w.WriteHeader(http.StatusInternalServerError)
	}
})

// TestSite is the test in the documentation of the package.
func TestSite(t *testing.T) {
	ca := acmetest.NewServer()
	defer ca.Close()
	m := newManager(&acme.Client{DirectoryURL: ca.URL, HTTPClient: ca.Client()})
	defer m.Close()
	ca.Resolve("example.com", acmetest.Target{TLSConfig: m.TLSConfig(), HTTPSHandler: site})
	res, err := ca.Visitor().Get("https://example.com/")
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%v, error %v\n%v", res, err, ca)
	}
	res.Body.Close()
}

// The first test that a reader sees is that of TestSite, and has 12 lines.
func TestDocumentationShowsTestSite(t *testing.T) {
	source := readFile(t, "site_test.go")
	_, code, _ := strings.Cut(source, "\nfunc TestSite(")
	code, _, _ = strings.Cut("func TestSite("+code, "\n}\n")
	code += "\n}\n"
	if n := strings.Count(code, "\n"); n != 12 {
		t.Errorf("it has %d lines", n)
	}
	var comment strings.Builder
	for line := range strings.Lines(code) {
		comment.WriteString("//\t" + line)
	}
	if !strings.Contains(readFile(t, "doc.go"), "//\n"+comment.String()+"//\n") {
		t.Error("doc.go shows another test")
	}
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(b), "\r\n", "\n")
}

// TestSite fails when the server is broken, and says why.
func TestTestSiteFailsWhenItShould(t *testing.T) {
	for what, want := range map[string]string{
		"list":    "host not allowed: example.com",
		"handler": "500 Internal Server Error",
		"":        "PASS",
	} {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestSite$", "-test.count=1")
		cmd.Env = append(os.Environ(), broken+"="+what)
		out, err := cmd.CombinedOutput()
		if (err == nil) != (what == "") || !strings.Contains(string(out), want) {
			t.Errorf("%q broken: error %v, want one with %q:\n%s", what, err, want, out)
		}
	}
}
