package integration

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path"
	"strings"
	"testing"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
)

// victimEnv makes the test binary a server that kills itself during an issuance.
const victimEnv = "NOSTALL_INTEGRATION_VICTIM"

const victimHost = "victim.example.org"

// The moments at which a victim is killed.
const (
	whenPlaced    = "order placed"
	whenKeyKept   = "key stored"
	whenFinalized = "finalized"
)

// victim serves victimHost at an address, with a certificate from a CA whose own
// certificate is in a file, and is killed at a moment.
func victim(moment, address, directory, trustFile, cacheDir string) (code int) {
	fail := func(err error) int {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	trusted, err := os.ReadFile(trustFile)
	if err != nil {
		return fail(err)
	}
	trust := x509.NewCertPool()
	trust.AppendCertsFromPEM(trusted)
	l, err := net.Listen("tcp", address)
	if err != nil {
		return fail(err)
	}
	m := &certmgr.Manager{
		Prompt: certmgr.AcceptTOS,
		Cache:  fatalCache{certmgr.DirCache(cacheDir), moment},
		Hosts:  certmgr.MustAllowlist(victimHost),
		Client: &acme.Client{
			DirectoryURL: directory,
			HTTPClient:   &http.Client{Transport: fatalTransport{&http.Transport{TLSClientConfig: &tls.Config{RootCAs: trust}}, moment}},
		},
	}
	go http.Serve(tls.NewListener(l, m.TLSConfig()), http.NotFoundHandler())
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return fail(fmt.Errorf("still alive: %v", m.Obtain(ctx, victimHost)))
}

// kill ends this process as the kernel would, without any clean-up.
func kill() {
	self, err := os.FindProcess(os.Getpid())
	if err == nil {
		self.Kill()
	}
	select {}
}

// fatalCache kills the process after a write of an order.
type fatalCache struct {
	certmgr.Cache
	moment string
}

func (c fatalCache) Put(ctx context.Context, key string, data []byte) error {
	err := c.Cache.Put(ctx, key, data)
	hasKey := bytes.Contains(data, []byte("PRIVATE KEY"))
	if strings.HasSuffix(key, "+order") && (c.moment == whenPlaced || c.moment == whenKeyKept && hasKey) {
		kill()
	}
	return err
}

// fatalTransport kills the process when the CA has accepted the certificate
// request.
type fatalTransport struct {
	http.RoundTripper
	moment string
}

func (t fatalTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := t.RoundTripper.RoundTrip(req)
	if t.moment == whenFinalized && err == nil && res.StatusCode == http.StatusOK && strings.Contains(req.URL.Path, path.Clean("/"+finalize)) {
		kill()
	}
	return res, err
}

// A server that is killed by the kernel during an issuance is replaced by one that
// goes on with its order.
func TestOrderOfAKilledServerIsResumed(t *testing.T) {
	for _, moment := range []string{whenPlaced, whenKeyKept, whenFinalized} {
		t.Run(moment, func(t *testing.T) {
			port := freePorts(t, 1)[0]
			p := startPebble(t, pebbleConfig{tlsPort: port})
			dir := t.TempDir()
			self, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), self, moment, loopback(port), p.directory, p.trustFile, dir)
			cmd.Env = append(os.Environ(), victimEnv+"=1")
			out, err := cmd.CombinedOutput()
			if cmd.ProcessState == nil || cmd.ProcessState.Exited() {
				t.Fatalf("it was not killed: %v\n%s", err, out)
			}
			if moment == whenFinalized {
				p.transport.awaitIssued(t.Context())
			}
			l, err := net.Listen("tcp", loopback(port))
			if err != nil {
				t.Fatal(err)
			}
			m := newManager(t, p, certmgr.DirCache(dir), victimHost)
			addr := serveTLS(t, l, m.TLSConfig())
			mustVisit(t, addr, victimHost, p.roots, nil)
			if n := m.traffic.count(func(r request) bool { return r.resource == newOrder }); n != 0 {
				t.Errorf("%d orders were placed", n)
			}
			m.close(t)
			if left, err := os.ReadFile(dir + "/" + victimHost + "+order"); err == nil {
				t.Errorf("the entry of the order is left: %d bytes", len(left))
			}
		})
	}
}
