package certmgr_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
)

// lines is a writer that keeps what it gets.
type lines struct {
	mu  sync.Mutex
	all []string // one for each Write
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, string(p))
	return len(p), nil
}

// take returns what was written since the last call.
func (l *lines) take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := l.all
	l.all = nil
	return all
}

// visitorConn is the connection of a visitor at an address.
type visitorConn struct {
	net.Conn
	addr net.Addr
}

func (c *visitorConn) RemoteAddr() net.Addr { return c.addr }

// pipes is a listener of in-memory connections.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	if conn, ok := <-p; ok {
		return conn, nil
	}
	return nil, net.ErrClosed
}

func (p pipes) Close() error   { return nil }
func (p pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 443} }

// serve runs an http.Server with a world's certificates and returns how to visit
// it, and how to stop it.
func (w *world) serve(errorLog *log.Logger) (visit func(sni string), stop func()) {
	ln := make(pipes)
	server := &http.Server{
		TLSConfig: w.m.TLSConfig(),
		ErrorLog:  errorLog,
		Handler:   http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("oops") }),
	}
	served := make(chan error)
	go func() { served <- server.ServeTLS(ln, "", "") }()
	visit = func(sni string) {
		near, far := net.Pipe()
		ln <- &visitorConn{far, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 51234}}
		client := tls.Client(near, &tls.Config{ServerName: sni, RootCAs: w.ca.Roots(), InsecureSkipVerify: sni == ""})
		if client.HandshakeContext(w.t.Context()) == nil {
			fmt.Fprintf(client, "GET / HTTP/1.0\r\n\r\n")
			client.Read(make([]byte, 1))
		}
		near.Close()
		synctest.Wait()
	}
	return visit, func() {
		close(ln)
		server.Close()
		<-served
	}
}

// 200 visitors within a minute ask for a host whose validation fails. net/http
// writes a line for each of them; with ErrorLog, the log has the lines of the audit
// trail alone. The README has these figures.
func TestLogOfAFailingHostIsShort(t *testing.T) {
	visit200 := func(t *testing.T, withErrorLog bool) (count, size int) {
		inBubble(t, func(t *testing.T, w *world) {
			var out lines
			w.m.Audit = audit.Log(slog.New(slog.NewTextHandler(&out, nil)))
			w.ca.FailValidation("a.example.com", "", acmetest.Problem{Type: "unauthorized", Detail: "The key authorization file " +
				"from the server did not match this challenge: it leads to another machine"})
			w.m.Backoff = []time.Duration{time.Hour}
			errorLog := log.New(&out, "", log.LstdFlags)
			if withErrorLog {
				errorLog = w.m.ErrorLog(errorLog)
			}
			visit, stop := w.serve(errorLog)
			for range 200 {
				visit("a.example.com")
				time.Sleep(250 * time.Millisecond)
			}
			stop()
			w.m.Close()
			for _, line := range out.take() {
				if isNet := strings.Contains(line, "http: TLS handshake error"); isNet && withErrorLog {
					t.Errorf("net/http's line passes: %s", line)
				}
				count++
				size += len(line)
			}
		})
		return count, size
	}
	plainCount, plainSize := visit200(t, false)
	count, size := visit200(t, true)
	t.Logf("without ErrorLog %d lines with %d bytes, with it %d lines with %d bytes", plainCount, plainSize, count, size)
	if plainCount-count != 200 {
		t.Errorf("ErrorLog drops %d lines, want one for each of 200 visitors", plainCount-count)
	}
	if count != 8 || size > 5_000 || plainSize < 50_000 {
		t.Error("these are not the README's figures: correct them there, if the new ones are right")
	}
}

// What ErrorLog drops is told by the audit trail, whatever the error, and also if
// no hook is set.
func TestErrorLogDropsWhatTheAuditTells(t *testing.T) {
	failing := func(w *world) {
		w.ca.FailValidation("a.example.com", "", acmetest.Problem{Type: "unauthorized", Detail: "no"})
	}
	for _, c := range []struct {
		name  string
		sni   string
		setup func(w *world)
		tells audit.Result
	}{
		{"no SNI", "", nil, audit.ResultNoServerName},
		{"a bad name", "localhost", nil, audit.ResultBadServerName},
		{"not allowed", "other.example.org", nil, audit.ResultNotAllowed},
		{"the whitelist's refusal", "other.example.org", func(w *world) { w.m.Hosts, w.m.HostPolicy = nil, certmgr.HostWhitelist("a.example.com") }, audit.ResultNotAllowed},
		{"the first failure", "a.example.com", failing, audit.ResultFailed},
		{"the cache fails", "a.example.com", func(w *world) {
			w.cache.get(func(context.Context, string) error { return errors.New("disk on fire") })
		}, audit.ResultCacheFailed},
		{"closed", "a.example.com", func(w *world) { w.m.Close() }, audit.ResultClosed},
	} {
		for _, hook := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, with a hook: %v", c.name, hook), func(t *testing.T) {
				slogged := quietLog(t)
				inBubble(t, func(t *testing.T, w *world) {
					if !hook {
						w.m.Audit = nil
					}
					if c.setup != nil {
						c.setup(w)
					}
					var out lines
					visit, stop := w.serve(w.m.ErrorLog(log.New(&out, "", 0)))
					visit(c.sni)
					stop()
					synctest.Wait()
					if got := out.take(); len(got) > 0 {
						t.Errorf("passed: %q", got)
					}
					told := w.events.of(audit.HandshakesRefused)
					if hook && (len(told) != 1 || told[0].Result != c.tells) {
						t.Errorf("the audit tells %v, want one event with result %q", told, c.tells)
					}
					if log := slogged.String(); hook == strings.Contains(log, "handshakes refused") || !hook && !strings.Contains(log, "result="+string(c.tells)) {
						t.Errorf("slog has %q", log)
					}
				})
			})
		}
	}
}

// Everything else passes.
func TestErrorLogPassesTheRest(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.HostPolicy = func(_ context.Context, host string) error {
			return errors.New(host + " has not paid; see certmgr: nothing")
		}
		var out lines
		visit, stop := w.serve(w.m.ErrorLog(log.New(&out, "", 0)))
		defer stop()
		for _, c := range []struct{ name, sni, want string }{
			{"an error of HostPolicy", "x.example.org", "http: TLS handshake error from 192.0.2.1:51234: x.example.org has not paid; see certmgr: nothing"},
			{"a panic of a handler", "a.example.com", "http: panic serving 192.0.2.1:51234: oops"},
		} {
			visit(c.sni)
			if got := out.take(); len(got) != 1 || !strings.HasPrefix(got[0], c.want) {
				t.Errorf("%s: the log has %q, want %q", c.name, got, c.want)
			}
		}
		visit("certmgr: x") // the client's name is no name
		if got := out.take(); len(got) != 0 {
			t.Errorf("passed: %q", got)
		}
	})
}

// The beginning of a message decides, and only a whole message is dropped.
func TestErrorLogLooksAtTheBeginning(t *testing.T) {
	var out lines
	logger := new(certmgr.Manager).ErrorLog(log.New(&out, "[next] ", log.Lmsgprefix))
	const refused = "http: TLS handshake error from 192.0.2.1:51234: certmgr: backing off: a.example.com"
	for _, message := range []string{
		refused,
		refused + "\n",
		"http: TLS handshake error from [2001:db8::1%eth0]:443: certmgr: missing server name",
		"http: TLS handshake error from @: certmgr: missing server name", // a Unix socket
		"http: TLS handshake error from : certmgr: missing server name",
	} {
		logger.Print(message)
		if got := out.take(); len(got) > 0 {
			t.Errorf("passed: %q", got)
		}
	}
	for _, message := range []string{
		"http: panic serving 192.0.2.1:51234: " + refused + "\ngoroutine 7 [running]:\n" + refused,
		"http: panic serving 192.0.2.1:51234: \n" + refused,
		refused + "\nand more",
		"http: TLS handshake error from 192.0.2.1:51234: tls: client offered only \"certmgr: x\"",
		"http: TLS handshake error from 192.0.2.1:51234: policy: certmgr: x",
		"http: TLS handshake error from 192.0.2.1:51234: acme/autocert: host \"certmgr: x\" not configured",
		"http: TLS handshake error from 192.0.2.1:51234: EOF",
		"http: TLS handshake error from 192.0.2.1:51234: certmgrs: x",
		"http: TLS handshake error from certmgr: ",
		"http2: server connection error from 192.0.2.1:51234: certmgr: x",
		" " + refused,
		"",
	} {
		logger.Print(message)
		if got, want := out.take(), "[next] "+strings.TrimSuffix(message, "\n")+"\n"; len(got) != 1 || got[0] != want {
			t.Errorf("passed: %q, want %q", got, want)
		}
	}
}

// next's prefix and flags are kept, and its file and line are those of the caller.
func TestErrorLogKeepsTheNextOnesForm(t *testing.T) {
	var out lines
	next := log.New(&out, "web: ", log.Lshortfile)
	logger := new(certmgr.Manager).ErrorLog(next)
	for name, print := range map[string]func(l *log.Logger){
		"Printf":  func(l *log.Logger) { l.Printf("x %d", 1) },
		"Println": func(l *log.Logger) { l.Println("x", 1) },
		"Output":  func(l *log.Logger) { l.Output(1, "x 1") },
	} {
		print(next)
		print(logger)
		if got := out.take(); len(got) != 2 || got[0] != got[1] || !strings.HasPrefix(got[0], "web: errorlog_test.go:") {
			t.Errorf("%s: %q", name, got)
		}
	}
	next.SetPrefix("later: ")
	next.SetFlags(0)
	logger.Print("x")
	if got := out.take(); len(got) != 1 || got[0] != "later: x\n" {
		t.Errorf("after a change of next: %q", got)
	}

	broken := log.New(writerFunc(func([]byte) (int, error) { return 0, errDenied }), "", 0)
	if err := new(certmgr.Manager).ErrorLog(broken).Output(1, "x"); err != errDenied {
		t.Errorf("a writer that fails: %v", err)
	}
}

// Without a next logger it is the standard one, as in http.Server.
func TestErrorLogOfNilIsTheStandardLogger(t *testing.T) {
	var out lines
	old, flags := log.Writer(), log.Flags()
	log.SetOutput(&out)
	log.SetFlags(0)
	defer log.SetFlags(flags)
	defer log.SetOutput(old)
	new(certmgr.Manager).ErrorLog(nil).Print("x")
	if got := out.take(); len(got) != 1 || got[0] != "x\n" {
		t.Errorf("the standard logger got %q", got)
	}
}

// Messages of concurrent writers stay whole, and reach next one at a time.
func TestErrorLogOfConcurrentConnections(t *testing.T) {
	var out lines
	logger := new(certmgr.Manager).ErrorLog(log.New(&out, "", 0))
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 100 {
				logger.Printf("http: TLS handshake error from 192.0.2.%d:1: certmgr: missing server name", i)
				logger.Printf("http: TLS handshake error from 192.0.2.%d:1: EOF", i)
			}
		})
	}
	wg.Wait()
	got := out.take()
	if len(got) != 800 {
		t.Errorf("%d lines passed, want 800", len(got))
	}
	for _, line := range got {
		if !strings.HasPrefix(line, "http: TLS") || !strings.HasSuffix(line, ": EOF\n") || strings.Count(line, "\n") != 1 {
			t.Fatalf("passed: %q", line)
		}
	}
}

// All errors of GetCertificate but those of HostPolicy begin so.
func TestErrorsBeginWithTheName(t *testing.T) {
	for _, err := range []error{
		certmgr.ErrNoServerName, certmgr.ErrBadServerName, certmgr.ErrHostNotAllowed, certmgr.ErrInFlight, certmgr.ErrBackoff,
		certmgr.ErrCAUnavailable, certmgr.ErrNoAccount, certmgr.ErrCache, certmgr.ErrPolicy, certmgr.ErrClock, certmgr.ErrBusy, certmgr.ErrClosed,
	} {
		if !strings.HasPrefix(err.Error(), "certmgr: ") {
			t.Errorf("%q", err)
		}
	}
}
