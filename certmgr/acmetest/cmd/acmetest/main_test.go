package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// commandEnv makes the test binary the command.
const commandEnv = "NOSTALL_ACMETEST_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(commandEnv) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// command is a running process of the command.
type command struct {
	t       *testing.T
	process *os.Process
	printed map[string]string // what the command says about itself
	stderr  bytes.Buffer
	wait    func() error
}

// start starts the command on free ports and waits until it is ready.
func startCommand(t *testing.T, args ...string) *command {
	t.Helper()
	cmd := exec.Command(os.Args[0], append([]string{"-addr", "127.0.0.1:0"}, args...)...)
	cmd.Env = append(os.Environ(), commandEnv+"=1")
	c := &command{t: t, printed: make(map[string]string)}
	cmd.Stderr = &c.stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c.process, c.wait = cmd.Process, sync.OnceValue(cmd.Wait)
	t.Cleanup(func() {
		_ = c.process.Kill()
		_ = c.wait()
	})
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		what, value, _ := strings.Cut(lines.Text(), " ")
		if what == "ready" {
			return c
		}
		c.printed[what] = value
	}
	t.Fatalf("the command ended: %v\n%s", c.wait(), &c.stderr)
	return nil
}

// end ends the command as a service manager does, and returns what it logged.
func (c *command) end() string {
	c.t.Helper()
	if err := c.process.Signal(syscall.SIGTERM); err != nil {
		c.t.Fatal(err)
	}
	if err := c.wait(); err != nil {
		c.t.Errorf("the command ended: %v", err)
	}
	return c.stderr.String()
}

// manage sends a request to the command's management.
func (c *command) manage(path string, body any) (int, string) {
	c.t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		c.t.Fatal(err)
	}
	resp, err := http.Post(c.printed["management"]+path, "application/json", bytes.NewReader(text))
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return resp.StatusCode, string(answer)
}

// client returns a client that trusts the file that the command has written, as
// a program in another language would.
func (c *command) client() *acme.Client {
	c.t.Helper()
	root, err := os.ReadFile(c.printed["root"])
	if err != nil {
		c.t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(root) {
		c.t.Fatalf("the root is %q", root)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	c.t.Cleanup(transport.CloseIdleConnections)
	return &acme.Client{DirectoryURL: c.printed["directory"], HTTPClient: &http.Client{Transport: transport}, Key: newKey(c.t)}
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// obtain obtains a certificate; publish answers the challenge.
func obtain(t *testing.T, client *acme.Client, typ, host string, publish func(*acme.Challenge)) *x509.Certificate {
	t.Helper()
	account := &acme.Account{}
	if _, err := client.Register(t.Context(), account, acme.AcceptTOS); err != nil && !errors.Is(err, acme.ErrAccountAlreadyExists) {
		t.Fatal(err)
	}
	order, err := client.AuthorizeOrder(t.Context(), acme.DomainIDs(host))
	if err != nil {
		t.Fatal(err)
	}
	authorization, err := client.GetAuthorization(t.Context(), order.AuthzURLs[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, challenge := range authorization.Challenges {
		if challenge.Type == typ {
			publish(challenge)
			if _, err := client.Accept(t.Context(), challenge); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := client.WaitOrder(t.Context(), order.URI); err != nil {
		t.Fatal(err)
	}
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{host}}, newKey(t))
	if err != nil {
		t.Fatal(err)
	}
	chain, _, err := client.CreateOrderCert(t.Context(), order.FinalizeURL, request, true)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		t.Fatal(err)
	}
	return leaf
}

// TestCommand runs the command as a process, and obtains certificates with what
// it prints: by http-01 at the port of a flag, and by dns-01 with a record that
// comes in by the management. Then it is restarted, with the same root.
func TestCommand(t *testing.T) {
	dir := t.TempDir()
	var client *acme.Client
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
		answer, _ := client.HTTP01ChallengeResponse(token)
		fmt.Fprint(w, answer)
	}))
	defer site.Close()
	args := []string{
		"-root", filepath.Join(dir, "root.pem"), "-root-key", filepath.Join(dir, "root.key"),
		"-http-port", strconv.Itoa(site.Listener.Addr().(*net.TCPAddr).Port), "-management", "127.0.0.1:0", "-dns", "127.0.0.1:0",
		"-validate-in-reply", "-lifetime", "24h", "-profiles", "letsencrypt", "-default-profile", "",
	}
	c := startCommand(t, args...)
	client = c.client()
	obtain(t, client, "http-01", "www.example.com", func(*acme.Challenge) {})
	leaf := obtain(t, client, "dns-01", "dns.example.com", func(challenge *acme.Challenge) {
		record, err := client.DNS01ChallengeRecord(challenge.Token)
		if err != nil {
			t.Fatal(err)
		}
		if status, text := c.manage("/set-txt", map[string]string{"host": "_acme-challenge.dns.example.com.", "value": record}); status != 200 {
			t.Fatalf("%d %s", status, text)
		}
		resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, c.printed["dns"])
		}}
		if got, err := resolver.LookupTXT(t.Context(), "_acme-challenge.dns.example.com."); err != nil || len(got) != 1 || got[0] != record {
			t.Errorf("the DNS server has %q, %v", got, err)
		}
	})
	if days := leaf.NotAfter.Sub(leaf.NotBefore).Hours() / 24; days > 1 {
		t.Errorf("the certificate lasts %.1f days, want 1", days)
	}
	if log := c.end(); !strings.Contains(log, "newOrder      201 www.example.com") || !strings.Contains(log, "2 certificates issued") {
		t.Errorf("log:\n%s", log)
	}

	root, err := os.ReadFile(filepath.Join(dir, "root.pem"))
	if err != nil {
		t.Fatal(err)
	}
	c = startCommand(t, args...)
	if again, err := os.ReadFile(filepath.Join(dir, "root.pem")); err != nil || !bytes.Equal(root, again) {
		t.Errorf("another root after a restart, %v", err)
	}
	client = c.client()
	obtain(t, client, "http-01", "www.example.com", func(*acme.Challenge) {})
	c.end()
}

// TestManagement tries each path.
func TestManagement(t *testing.T) {
	ca := acmetest.NewServer()
	defer ca.Close()
	o := &options{httpPort: 80, tlsPort: 443}
	server := httptest.NewServer(o.manage(ca))
	defer server.Close()
	c := &command{t: t, printed: map[string]string{"management": server.URL}}
	do := func(path, body string) {
		t.Helper()
		if status, text := c.manage(path, json.RawMessage(body)); status != 200 {
			t.Errorf("%s %s: %d %s", path, body, status, text)
		}
	}
	leads := func(name string) string {
		target, _ := ca.Target(name)
		return target.HTTPAddr + " " + target.TLSAddr
	}
	do("/set-txt", `{"host":"a.example.com.","value":"one"}`)
	do("/set-txt", `{"host":"a.example.com.","value":"two"}`)
	if got := ca.TXT("a.example.com"); len(got) != 2 {
		t.Errorf("TXT records %q", got)
	}
	do("/clear-txt", `{"host":"a.example.com."}`)
	if got := ca.TXT("a.example.com"); len(got) != 0 {
		t.Errorf("TXT records %q", got)
	}
	do("/set-cname", `{"host":"a.example.com.","target":"b.example.com."}`)
	if got := ca.CNAME("a.example.com"); got != "b.example.com" {
		t.Errorf("CNAME record %q", got)
	}
	do("/clear-cname", `{"host":"a.example.com."}`)
	if got := ca.CNAME("a.example.com"); got != "" {
		t.Errorf("CNAME record %q", got)
	}
	do("/set-default-ipv4", `{"ip":"192.0.2.1"}`)
	do("/add-a", `{"host":"a.example.com.","addresses":["192.0.2.2"]}`)
	do("/add-aaaa", `{"host":"b.example.com.","addresses":["2001:db8::1"]}`)
	for name, want := range map[string]string{
		"a.example.com": "192.0.2.2:80 192.0.2.2:443",
		"b.example.com": "[2001:db8::1]:80 [2001:db8::1]:443",
		"c.example.com": "192.0.2.1:80 192.0.2.1:443",
	} {
		if got := leads(name); got != want {
			t.Errorf("%s leads to %s, want %s", name, got, want)
		}
	}
	do("/clear-a", `{"host":"a.example.com."}`)
	do("/clear-aaaa", `{"host":"b.example.com."}`)
	if leads("a.example.com") != leads("c.example.com") || leads("b.example.com") != leads("c.example.com") {
		t.Error("a cleared name leads elsewhere than others")
	}
	do("/stop", "null")
	if _, err := ca.Client().Get(ca.URL); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("after /stop: %v", err)
	}
	do("/restart", "null")
	for _, page := range []struct {
		client    *http.Client
		url, want string
	}{
		{ca.Client(), ca.URL, "newOrder"},
		{server.Client(), server.URL + "/roots/0", string(ca.RootPEM())},
		{server.Client(), server.URL + "/log", "directory     200"},
	} {
		resp, err := page.client.Get(page.url)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if !strings.Contains(string(text), page.want) {
			t.Errorf("%s: %s", page.url, text)
		}
	}
	for path, body := range map[string]string{
		"/set-txt":   `{"value":"no host"}`,
		"/clear-txt": `["not an object"]`,
		"/set-cname": `{"host":"*.example.com","target":"a.example.com"}`,
		"/add-a":     `{"host":"a.example.com."}`,
		"/add-aaaa":  `{"host":"a.example.com.","addresses":["localhost"]}`,
	} {
		if status, _ := c.manage(path, json.RawMessage(body)); status != http.StatusBadRequest {
			t.Errorf("%s %s: %d", path, body, status)
		}
	}
}

// TestWrongFlags: a mistake ends the command at once and is named.
func TestWrongFlags(t *testing.T) {
	t.Chdir(t.TempDir()) // a root is written
	if err := os.WriteFile("damaged.key", []byte("not a key"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ args, want string }{
		{"-challenges http-1", "http-1"},
		{"-default-profile none", "not in Profiles"},
		{"-profiles other", "letsencrypt"},
		{"-rate-limits other", "letsencrypt"},
		{"-eab kid", "in base64"},
		{"-eab :a2V5", "in base64"},
		{"-tsig name:!", "in base64"},
		{"-bad-nonces 2", "from 0 to 1"},
		{"-target localhost", "target"},
		{"-addr 192.0.2.1:0", "192.0.2.1"},
		{"-dns 192.0.2.1:0", "192.0.2.1"},
		{"-management 192.0.2.1:0", "192.0.2.1"},
		{"-root none/root.pem", "none"},
		{"-root-key damaged.key", "delete both"},
		{"serve", `"serve"`},
	} {
		args := append([]string{"-addr", "127.0.0.1:0"}, strings.Fields(test.args)...)
		var printed bytes.Buffer
		err := run(t.Context(), args, &printed, io.Discard)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want an error with %q", test.args, err, test.want)
		}
		if strings.Contains(printed.String(), "ready") {
			t.Errorf("%s: %s", test.args, &printed)
		}
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	args := []string{"-root", "running.pem", "-addr", taken.Addr().String()}
	if err := run(t.Context(), args, io.Discard, io.Discard); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("a second one at the same address: %v", err)
	}
	if _, err := os.Stat("running.pem"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it wrote the first one's root: %v", err)
	}
	if text, err := os.ReadFile("damaged.key"); err != nil || string(text) != "not a key" {
		t.Errorf("the key's file has %q, %v", text, err)
	}
}
