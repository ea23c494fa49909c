package cases

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/cache"
)

// serverDir is set in a child process, which obtains a certificate for host: the
// cache's directory. serverCA is the URL of the CA's directory. The listener is
// the child's first file after standard error, and the CA's own certificate is in
// the file caFile beside the cache.
const (
	serverDir = "NOSTALL_CASES_SERVER"
	serverCA  = "NOSTALL_CASES_CA"
	caFile    = "../ca.pem"
)

// serverTimeout bounds a child's issuance.
const serverTimeout = time.Minute

func TestServerForStrace(t *testing.T) {
	dir := os.Getenv(serverDir)
	if dir == "" {
		t.Skip("for other tests")
	}
	trusted, err := os.ReadFile(filepath.Join(dir, caFile))
	if err != nil {
		t.Fatal(err)
	}
	trust := x509.NewCertPool()
	trust.AppendCertsFromPEM(trusted)
	l, err := net.FileListener(os.NewFile(3, "listener"))
	if err != nil {
		t.Fatal(err)
	}
	m := &certmgr.Manager{
		Prompt: certmgr.AcceptTOS,
		Cache:  cache.Dir(dir),
		Hosts:  certmgr.MustAllowlist(host),
		Client: &acme.Client{
			DirectoryURL: os.Getenv(serverCA),
			HTTPClient:   &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trust}}},
		},
		Audit:         new(recorder).hook,
		HandshakeWait: serverTimeout,
	}
	srv := &http.Server{}
	go srv.Serve(tls.NewListener(l, m.TLSConfig()))
	if _, err := m.GetCertificate(hello(host)); err != nil {
		t.Fatal(err)
	}
	awaitCleanUp(t, dir)
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	srv.Close()
}

// awaitCleanUp waits until nothing is left of an issuance, which is deleted in the
// background. Close would interrupt that, and a server runs for longer.
func awaitCleanUp(t *testing.T, dir string) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(serverTimeout); ; <-tick.C {
		left, err := filepath.Glob(filepath.Join(dir, host+"+*"))
		if err != nil {
			t.Fatal(err)
		}
		if len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%q are not deleted", left)
		}
	}
}

// serverSite is a CA, and where servers run one after the other.
type serverSite struct {
	ca     *acmetest.Server
	dir    cache.Dir
	socket *os.File // of the listener that all of them use
}

func newServerSite(t *T) *serverSite {
	t.Helper()
	s := &serverSite{ca: acmetest.NewServer(), dir: cache.Dir(filepath.Join(t.TempDir(), "cache"))}
	t.Cleanup(s.ca.Close)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if s.socket, err = l.(*net.TCPListener).File(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.socket.Close() })
	s.ca.Resolve(host, acmetest.Target{TLSAddr: l.Addr().String()})
	if err := os.Mkdir(string(s.dir), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(string(s.dir), caFile), s.ca.RootPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

// remove removes the files of locks that match a pattern.
func (s *serverSite) remove(t *T, pattern string) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(string(s.dir), pattern))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		if err := os.Remove(path); err != nil {
			t.Error(err)
		}
	}
}

// run runs a server under strace, until its certificate is in the cache.
func (s *serverSite) run(t *T, args ...string) (lines []string, killed bool) {
	t.Helper()
	env := []string{serverDir + "=" + string(s.dir), serverCA + "=" + s.ca.URL}
	return underStrace(t, "TestServerForStrace", env, s.socket, args...)
}

// A server that is killed at any of the system calls by which it writes its cache
// is followed by one with the same account, at most one more order, and nothing
// left over.
func TestServerThatIsKilledWhileItWrites(t *testing.T) {
	table.Run(t, "held/killed during an issuance", func(t *T) {
		needStrace(t)
		n, kills := 0, 0
		for _, name := range []string{"openat", "fsync", "renameat", "unlinkat"} {
			total := countCalls(t, name)
			for nth := 1; nth <= total; nth++ {
				if n++; !*allFaults && n%9 != 0 {
					continue
				}
				t.Run(fmt.Sprintf("%s %d", name, nth), func(t *T) {
					if killServer(t, name, nth) {
						kills++
					}
				})
			}
		}
		if kills == 0 {
			t.Errorf("none of %d servers was killed", n)
		}
	})
}

// countCalls returns how many calls of a name a server makes in all its threads.
// No thread makes more.
func countCalls(t *T, name string) (n int) {
	t.Helper()
	s := newServerSite(t)
	lines, _ := s.run(t, "-e", "trace=?"+name)
	for _, line := range lines {
		if strings.Contains(line, name+"(") {
			n++
		}
	}
	return n
}

// killServer kills a server at its nth call of a name, if it makes so many in one
// thread, and checks what the next ones find.
func killServer(t *T, name string, nth int) bool {
	t.Helper()
	s := newServerSite(t)
	if _, killed := s.run(t, killAt(name, nth)...); !killed {
		return false
	}
	s.run(t, "-e", "trace=none") // it goes on
	s.run(t, "-e", "trace=none") // it has its certificate
	if accounts, orders, issued := len(s.ca.Accounts()), len(s.ca.Orders()), len(s.ca.Issued()); accounts != 1 || orders > 2 || issued != 1 {
		t.Errorf("%d accounts, %d orders, %d certificates, want 1, 2 at most, and 1\n%v", accounts, orders, issued, s.ca)
	}
	clean(t, s.dir) // several entries may have been written at the time
	s.remove(t, ".locks-*~")
	s.remove(t, ".lease-*~") // of a lock that was not needed again
	checkNames(t, s.dir, accountEntry, visitsEntry, host)
	return true
}
