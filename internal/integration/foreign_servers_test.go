package integration

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// serve runs a server that is a client of the CA, until the function that it
// returns is called or the test ends.
func (f *foreign) serve(program string, args ...string) (end func()) {
	f.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir, cmd.Env = f.dir, f.env
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	out := new(log)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		f.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = cmd.Wait()
	}()
	end = func() {
		cancel()
		<-done
	}
	f.t.Cleanup(func() {
		end()
		if f.t.Failed() {
			f.t.Logf("output of %s:\n%s", program, out)
		}
	})
	return end
}

// await waits for certificate number n of a host, and until the client has
// stored it, so that the server can be ended.
func (f *foreign) await(host string, n int, stored string) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), foreignTimeout)
	defer cancel()
	cert, err := f.ca.WaitIssued(ctx, host, n)
	if err != nil {
		f.t.Fatal(err)
	}
	err = f.ca.WaitCount(ctx, acmetest.Match{Endpoint: acmetest.Certificate, Host: host}, n)
	for poll := time.Tick(50 * time.Millisecond); err == nil && !f.holds(stored, cert.Raw); {
		select {
		case <-poll:
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	if err != nil {
		f.t.Fatalf("certificate %d for %s: %v", n, host, err)
	}
}

// holds reports whether a file that matches a pattern begins with a certificate.
func (f *foreign) holds(pattern string, der []byte) bool {
	files, err := filepath.Glob(filepath.Join(f.dir, pattern))
	if err != nil {
		f.t.Fatal(err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err == nil && strings.HasPrefix(string(content), "-----BEGIN CERTIFICATE-----") {
			if chain := parsePEM(content); len(chain) > 0 && string(chain[0]) == string(der) {
				return true
			}
		}
	}
	return false
}

// soon makes the first certificate of a host expire within a day, so that a
// client that is restarted renews it.
func (f *foreign) soon(host string) {
	f.ca.WrongDates(host, time.Now().AddDate(0, 0, -80), time.Now().AddDate(0, 0, 1), acmetest.Times(1))
}

// TestForeignCaddy: Caddy obtains a certificate, and renews it after a restart.
func TestForeignCaddy(t *testing.T) {
	f := newForeign(t, "caddy", "caddy", nil)
	ports := freePorts(t, 2)
	f.ca.Resolve("a.example.com", acmetest.Target{HTTPAddr: loopback(ports[0]), TLSAddr: loopback(ports[1])})
	f.soon("a.example.com")
	config := f.write("Caddyfile", fmt.Sprintf(`{
	admin off
	http_port %d
	https_port %d
	storage file_system @DIR@/data
	acme_ca @URL@
	acme_ca_root @ROOT@
}
a.example.com {
	bind 127.0.0.1
}
`, ports[0], ports[1]))
	for n := range 2 {
		end := f.serve("caddy", "run", "--adapter", "caddyfile", "--config", config)
		f.await("a.example.com", n+1, "data/certificates/*/a.example.com/*.crt")
		end()
	}
	f.want(2, 0)
}

// TestForeignModMD: Apache's mod_md obtains a certificate, and renews it after a
// restart, which is also when it begins to use one.
func TestForeignModMD(t *testing.T) {
	f := newForeign(t, "apache2", "apache2-bin", nil)
	for dir := f.dir; strings.HasPrefix(dir, os.TempDir()+string(filepath.Separator)); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil { // Apache gives up root's rights
			t.Fatal(err)
		}
	}
	ports := freePorts(t, 2)
	f.ca.Resolve("a.example.com", acmetest.Target{HTTPAddr: loopback(ports[0]), TLSAddr: loopback(ports[1])})
	f.soon("a.example.com")
	config := f.write("httpd.conf", fmt.Sprintf(`
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule socache_shmcb_module /usr/lib/apache2/modules/mod_socache_shmcb.so
LoadModule ssl_module /usr/lib/apache2/modules/mod_ssl.so
LoadModule md_module /usr/lib/apache2/modules/mod_md.so
ServerRoot @DIR@
PidFile @DIR@/pid
ErrorLog @DIR@/error.log
Mutex file:@DIR@ default
User nobody
Group nogroup
Listen 127.0.0.1:%[1]d
Listen 127.0.0.1:%[2]d
ServerName a.example.com
MDStoreDir @DIR@/md
MDPortMap 80:%[1]d 443:%[2]d
MDCertificateAuthority @URL@
MDCACertificateFile @ROOT@
MDCertificateAgreement accepted
MDContactEmail a@example.com
MDomain a.example.com
<VirtualHost 127.0.0.1:%[1]d>
ServerName a.example.com
</VirtualHost>
<VirtualHost 127.0.0.1:%[2]d>
ServerName a.example.com
SSLEngine on
</VirtualHost>
`, ports[0], ports[1]))
	for n := range 2 {
		end := f.serve("apache2", "-f", config, "-DFOREGROUND")
		f.await("a.example.com", n+1, "md/staging/a.example.com/*.pem")
		end()
	}
	f.want(2, 0)
}
