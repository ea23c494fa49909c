package integration

import (
	"context"
	"flag"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// Foreign clients are programs in other languages. They take seconds, so CI
// runs them once, by this flag.
var foreignFlag = flag.Bool("integration.foreign", false, "run ACME clients in other languages (Debian packages) against acmetest")

// foreignTimeout bounds one run of a client. They sleep between polls.
const foreignTimeout = 3 * time.Minute

// foreign is a CA for one client, which knows of it what its users would: a URL
// and the file of a root.
type foreign struct {
	t    *testing.T
	ca   *acmetest.Server
	dir  string // the client's home
	root string // the CA's root in PEM
	www  string // served at port 80 of every host
	env  []string
}

// newForeign starts a CA for a client, which is a program of a Debian package.
// configure sets the CA's fields and may be nil.
func newForeign(t *testing.T, program, debian string, configure func(*acmetest.Server)) *foreign {
	t.Helper()
	if !*foreignFlag {
		t.Skip("slow: run it by -integration.foreign")
	}
	needProgram(t, program, debian)
	t.Parallel() // the clients sleep most of the time
	ca := acmetest.NewUnstartedServer()
	if configure != nil {
		configure(ca)
	}
	ca.Start()
	f := &foreign{t: t, ca: ca, dir: t.TempDir()}
	t.Cleanup(func() {
		ca.Close()
		if t.Failed() {
			if text, err := os.ReadFile(filepath.Join(f.dir, "error.log")); err == nil {
				t.Logf("error.log:\n%s", text)
			}
			t.Logf("what the CA was asked:\n%v", ca)
		}
	})
	f.root = f.write("root.pem", string(ca.RootPEM()))
	f.www = filepath.Join(f.dir, "www")
	if err := os.MkdirAll(f.challenges(), 0o755); err != nil {
		t.Fatal(err)
	}
	l := listen(t)
	serveHTTP(t, l, http.FileServer(http.Dir(f.www)))
	ca.Resolve("*", acmetest.Target{HTTPAddr: l.Addr().String()})
	f.env = append(os.Environ(), "HOME="+f.dir, "LC_ALL=C")
	return f
}

// needProgram skips a test whose program is not installed; where
// NOSTALL_REQUIRE_SERVICES is 1, it fails.
func needProgram(t *testing.T, program, debian string) {
	t.Helper()
	if _, err := exec.LookPath(program); err == nil {
		return
	}
	const hint = "%s is not installed. On Debian, run: apt-get install --no-install-recommends %s"
	if os.Getenv("NOSTALL_REQUIRE_SERVICES") == "1" {
		t.Fatalf(hint, program, debian)
	}
	t.Skipf(hint, program, debian)
}

// challenges is the directory of http-01 answers.
func (f *foreign) challenges() string { return filepath.Join(f.www, ".well-known", "acme-challenge") }

// write writes a file of the client and returns its path. @DIR@, @WWW@, @ROOT@
// and @URL@ in the text are replaced.
func (f *foreign) write(name, text string) string {
	f.t.Helper()
	file := filepath.Join(f.dir, name)
	text = strings.NewReplacer("@DIR@", f.dir, "@WWW@", f.www, "@ROOT@", f.root, "@URL@", f.ca.URL).Replace(text)
	if err := os.WriteFile(file, []byte(text), 0o755); err != nil {
		f.t.Fatal(err)
	}
	return file
}

// run runs a client, or a tool, that must succeed, and returns its output.
func (f *foreign) run(program string, args ...string) string {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), foreignTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir, cmd.Env = f.dir, f.env
	cmd.WaitDelay = time.Second // children may hold the output open
	out, err := cmd.CombinedOutput()
	if err != nil {
		f.t.Fatalf("%s %s: %v\n%s", program, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// runTrusting runs a shell script in which the root is the only one that the
// system trusts, for clients that know no other. That takes root's rights.
func (f *foreign) runTrusting(script string) {
	f.t.Helper()
	if os.Geteuid() != 0 {
		f.t.Skip("only root can replace the system's certificates for a client")
	}
	store := filepath.Join(f.dir, "store")
	if err := os.Mkdir(store, 0o755); err != nil {
		f.t.Fatal(err)
	}
	f.write("store/ca-certificates.crt", string(f.ca.RootPEM()))
	f.run("openssl", "rehash", store)
	file := f.write("script.sh", "set -e\nmount --bind "+store+" /etc/ssl/certs\n"+script)
	f.run("unshare", "-m", "sh", file)
}

// want checks what the CA has issued and revoked in all, and that it refused
// nothing but nonces, and accounts to clients that ask whether there is one.
func (f *foreign) want(issued, revoked int) {
	f.t.Helper()
	if n := len(f.ca.Issued()); n != issued {
		f.t.Errorf("%d certificates were issued, want %d", n, issued)
	}
	if n := len(f.ca.Revoked()); n != revoked {
		f.t.Errorf("%d certificates were revoked, want %d", n, revoked)
	}
	for _, r := range f.ca.Requests() {
		if r.Problem != "" && r.Problem != "badNonce" && r.Problem != "accountDoesNotExist" {
			f.t.Errorf("%s %s: %s: %s", r.Method, r.Endpoint, r.Problem, r.Detail)
		}
	}
}

// makeKey makes an ECDSA key, or an RSA key for clients that know no other.
func (f *foreign) makeKey(name, algorithm string) string {
	f.t.Helper()
	file := filepath.Join(f.dir, name)
	if algorithm == "RSA" {
		f.run("openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", file)
	} else {
		f.run("openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", file)
	}
	return file
}
