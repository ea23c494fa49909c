package certmgr_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/preflight"
	"github.com/nostall/nostall/internal/probe"
	"github.com/nostall/nostall/internal/text"
)

func TestPreflightIsOffByDefault(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		n := w.preflight(preflight.Off)
		w.mustGet("a.example.com")
		w.ca.Resolve("b.example.com", acmetest.Target{})
		if _, err := w.get("b.example.com"); errors.Is(err, certmgr.ErrUnreachable) {
			t.Error(err)
		}
		if lookups, dials := n.used(); lookups+dials != 0 {
			t.Errorf("%d lookups and %d connections without Preflight", lookups, dials)
		}
	})
}

// A name that leads here passes at once and leaves nothing behind: no event, no
// live answer, nothing in the cache.
func TestPreflightPasses(t *testing.T) {
	for _, useHTTP := range []bool{false, true} {
		inBubble(t, func(t *testing.T, w *world) {
			n := w.preflight(preflight.Enforce)
			n.name("a.example.com", "2001:db8::1", "::ffff:192.0.2.1")
			n.listen("[2001:db8::1]:443", serveTLS(w.m.TLSConfig(), nil))
			if useHTTP {
				handler := w.m.HTTPHandler(nil)
				n.listen("192.0.2.1:80", serveHTTP(handler))
				n.listen("[2001:db8::1]:80", serveHTTP(handler))
			}
			start := time.Now()
			w.mustGet("a.example.com")
			if d := time.Since(start); d > time.Second {
				t.Errorf("took %v", d)
			}
			if e := w.events.of(audit.HostUnreachable); len(e) != 0 {
				t.Error(e)
			}
			if lookups, dials := n.used(); lookups != 1 || dials != 2 && !useHTTP || dials != 4 && useHTTP {
				t.Errorf("%d lookups, %d connections", lookups, dials)
			}
			if challengeGet(w, "a.example.com") == nil {
				t.Error("the certificate is still live")
			}
			synctest.Wait() // what follows an issuance or a load in the background
			w.cache.reads()
			for _, key := range w.cache.puts {
				if token, ok := strings.CutSuffix(key, "+http-01"); ok && w.askPort80("a.example.com", token).Code == http.StatusOK {
					t.Error("the key authorization is still live")
				}
				if strings.HasSuffix(key, "+token") || strings.HasSuffix(key, "+http-01") {
					if _, err := w.cache.Get(t.Context(), key); !errors.Is(err, certmgr.ErrCacheMiss) {
						t.Errorf("the cache still has %s: %v", key, err)
					}
				}
			}
		})
	}
}

// preflightCase is a name that does not lead here.
type preflightCase struct {
	name string
	set  func(t *testing.T, w *world, n *internet)
	want []string // in the error's text
	not  string
	at   time.Duration // takes
}

var preflightCases = []preflightCase{
	{"no such name", func(_ *testing.T, _ *world, n *internet) { n.name("a.example.com") },
		[]string{"a.example.com has no address in DNS: make it point here, or take it off the list"}, "", 0},
	{"NXDOMAIN", func(_ *testing.T, _ *world, n *internet) { delete(n.names, "a.example.com") },
		[]string{"a.example.com has no address in DNS"}, "", 0},
	{"nothing listens", func(_ *testing.T, _ *world, n *internet) { n.name("a.example.com", "192.0.2.7", "10.0.0.7") },
		[]string{"leads to 192.0.2.7, 10.0.0.7 (private): port 443 of 192.0.2.7, port 443 of 10.0.0.7: connection refused. This server did not get the request"}, "", 0},
	{"nothing answers", func(_ *testing.T, _ *world, n *internet) { n.dialed = blackhole },
		[]string{"port 443 of 192.0.2.1: no answer (timeout)"}, "", probe.AskTimeout},
	{"silence", func(_ *testing.T, _ *world, n *internet) { n.listen("192.0.2.1:443", serveSilence) },
		[]string{"port 443 of 192.0.2.1: accepts the connection but sends nothing (timeout)"}, "", probe.AskTimeout},
	{"closes", func(_ *testing.T, _ *world, n *internet) { n.listen("192.0.2.1:443", func(net.Conn) {}) },
		[]string{"192.0.2.1: closes the connection in the TLS handshake"}, "", 0},
	{"no TLS", func(_ *testing.T, _ *world, n *internet) {
		n.listen("192.0.2.1:443", serveText("SSH-2.0-OpenSSH_9.9\r\n"))
	}, []string{"192.0.2.1: does not speak TLS"}, "", 0},
	{"another server", func(t *testing.T, _ *world, n *internet) {
		n.listen("192.0.2.1:443", serveTLS(otherServer(t, nil, "*.other.example", "other.example", "c.example", "d.example"), nil))
	}, []string{`port 443 of 192.0.2.1: answers with a certificate for "*.other.example", "other.example", "c.example" and 1 more names and no acme-tls/1`}, "", 0},
	{"another server that knows its protocols", func(t *testing.T, _ *world, n *internet) {
		n.listen("192.0.2.1:443", serveTLS(otherServer(t, []string{"h2", "http/1.1"}, "other.example"), nil))
	}, []string{`TLS fails with "no application protocol", and without acme-tls/1 a certificate for "other.example"`}, "", 0},
	{"another ACME client", func(t *testing.T, _ *world, n *internet) {
		n.listen("192.0.2.1:443", serveTLS(otherServer(t, []string{"acme-tls/1"}), nil))
	}, []string{`answers with a certificate for "other" (acme-tls/1 of another ACME client)`}, "", 0},
	{"this server without acme-tls/1", func(_ *testing.T, w *world, n *internet) {
		n.listen("192.0.2.1:443", serveTLS(&tls.Config{GetCertificate: w.m.GetCertificate, NextProtos: []string{"h2", "http/1.1"}}, nil))
	}, []string{`192.0.2.1: is answered by this Manager, but tls.Config.NextProtos of that server lacks "acme-tls/1"`}, "did not get the request", 0},
	{"this server with HTTP/1.1 alone", func(_ *testing.T, w *world, n *internet) {
		n.listen("192.0.2.1:443", serveTLS(&tls.Config{GetCertificate: w.m.GetCertificate, NextProtos: []string{"http/1.1"}}, nil))
	}, []string{`NextProtos of that server lacks "acme-tls/1"`}, "did not get the request", 0},
	{"this server without protocols", func(_ *testing.T, w *world, n *internet) {
		n.listen("192.0.2.1:443", serveTLS(&tls.Config{GetCertificate: w.m.GetCertificate}, nil))
	}, []string{`NextProtos of that server lacks "acme-tls/1"`}, "did not get the request", 0},
	{"port 80 is nginx's", func(_ *testing.T, w *world, n *internet) {
		w.m.HTTPHandler(nil)
		n.name("a.example.com", "192.0.2.7")
		n.listen("192.0.2.7:80", serveHTTP(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Server", "nginx")
			http.NotFound(w, r)
		})))
	}, []string{`port 443 of 192.0.2.7: connection refused; port 80 of 192.0.2.7: status 404 from "nginx". This server`}, "", 0},
	{"both ports refuse", func(_ *testing.T, w *world, n *internet) {
		w.m.HTTPHandler(nil)
		n.name("a.example.com", "192.0.2.7", "2001:db8::7")
	}, []string{`leads to 192.0.2.7, 2001:db8::7: 192.0.2.7, 2001:db8::7: connection refused.`}, "", 0},
	{"addresses that are no host's", func(_ *testing.T, _ *world, n *internet) {
		n.name("a.example.com", "169.254.169.254", "0.0.0.0", "fe80::1")
	}, []string{": port 443 of 169.254.169.254, port 443 of 0.0.0.0, port 443 of fe80::1: an address that no public CA can reach, not asked (see Manager.PreflightAllow)."}, "", 0},
}

// Report: the same event, but the issuance continues.
func TestPreflightReports(t *testing.T) {
	for _, tt := range preflightCases {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				tt.set(t, w, w.preflight(preflight.Report))
				w.mustGet("a.example.com")
				w.wantOrders("a.example.com", 1)
				events := w.events.of(audit.HostUnreachable)
				if len(events) != 1 || events[0].Decision != audit.Allowed || events[0].Rule != "Preflight: report" || events[0].Host != "a.example.com" {
					t.Fatalf("events: %v", events)
				}
				if !errors.Is(events[0].Err, certmgr.ErrUnreachable) {
					t.Errorf("not ErrUnreachable: %v", events[0].Err)
				}
				checkPreflightText(t, events[0].Err, tt)
			})
		})
	}
}

func checkPreflightText(t *testing.T, err error, tt preflightCase) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range tt.want {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v\ndoes not say %q", err, want)
		}
	}
	if tt.not != "" && strings.Contains(err.Error(), tt.not) {
		t.Errorf("%v\nsays %q", err, tt.not)
	}
}

// One right address is enough; what the others do is told.
func TestPreflightTellsOfAddressesThatLeadElsewhere(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		n := w.preflight(preflight.Enforce)
		n.name("a.example.com", "2001:db8::7", "192.0.2.1")
		w.mustGet("a.example.com")
		events := w.events.of(audit.HostUnreachable)
		if len(events) != 1 || events[0].Decision != audit.Allowed || errors.Is(events[0].Err, certmgr.ErrUnreachable) {
			t.Fatalf("events: %v", events)
		}
		const want = "a.example.com leads to 2001:db8::7, 192.0.2.1: port 443 of 2001:db8::7: connection refused; the rest leads here"
		if got := events[0].Err.Error(); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	})
}

// A machine without IPv6 is no news.
func TestPreflightIgnoresAddressesWithoutARoute(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		n := w.preflight(preflight.Report)
		n.name("a.example.com", "2001:db8::7", "192.0.2.1")
		dial := w.m.PreflightDial
		w.m.PreflightDial = func(ctx context.Context, network, address string) (net.Conn, error) {
			if strings.HasPrefix(address, "[") {
				return nil, &net.OpError{Op: "dial", Err: errors.New("connect: network is unreachable")}
			}
			return dial(ctx, network, address)
		}
		w.mustGet("a.example.com")
		if e := w.events.of(audit.HostUnreachable); len(e) != 0 {
			t.Error(e)
		}
	})
}

// The challenge type that works is tried first, also where another one is due.
func TestPreflightChoosesTheChallenge(t *testing.T) {
	for _, mode := range []preflight.Mode{preflight.Report, preflight.Enforce} {
		inBubble(t, func(t *testing.T, w *world) {
			n := w.preflight(mode)
			handler := w.m.HTTPHandler(nil)
			n.name("a.example.com", "192.0.2.7")
			w.ca.Resolve("a.example.com", acmetest.Target{HTTPHandler: handler})
			if mode == preflight.Enforce { // the first attempt fails, the second would try http-01 alone
				w.get("a.example.com")
				w.wantOrders("a.example.com", 0)
				n.name("a.example.com", "192.0.2.8")
				n.listen("192.0.2.8:443", serveTLS(w.m.TLSConfig(), nil))
				w.ca.Resolve("a.example.com", acmetest.Target{TLSConfig: w.m.TLSConfig()})
				time.Sleep(time.Hour)
			} else {
				n.listen("192.0.2.7:80", serveHTTP(handler))
			}
			w.mustGet("a.example.com")
			w.wantOrders("a.example.com", 1)
			if e := w.events.of(audit.ChallengeFailed); len(e) != 0 {
				t.Error(e)
			}
		})
	}
}

// With preflight.Enforce no order is spent on a challenge type that will not work,
// also where the other one fails.
func TestPreflightSparesTheOtherChallenge(t *testing.T) {
	for mode, orders := range map[preflight.Mode]int{preflight.Report: 2, preflight.Enforce: 1} {
		inBubble(t, func(t *testing.T, w *world) {
			n := w.preflight(mode)
			n.listen("192.0.2.1:443", nil)
			n.listen("192.0.2.1:80", serveHTTP(w.m.HTTPHandler(nil)))
			w.ca.Resolve("a.example.com", acmetest.Target{})
			w.get("a.example.com")
			w.wantOrders("a.example.com", orders)
		})
	}
}

// A type that worked for the CA is not given up because this machine cannot
// reach it: renewal continues.
func TestPreflightDoesNotKeepAChallengeFromTheCA(t *testing.T) {
	elsewhere := serveHTTP(redirect("http://www.example.com/")) // which the CA follows, in earnest
	for mode, port80 := range map[preflight.Mode]func(net.Conn){preflight.Report: nil, preflight.Enforce: elsewhere} {
		inBubble(t, func(t *testing.T, w *world) {
			n := w.preflight(mode) // port 443 leads here, for this machine
			n.listen("192.0.2.1:80", port80)
			w.ca.Resolve("a.example.com", acmetest.Target{HTTPHandler: w.m.HTTPHandler(nil)})
			w.mustGet("a.example.com")
			if err := w.m.Renew(t.Context(), "a.example.com"); err != nil {
				t.Errorf("%v: %v", mode, err)
			}
		})
	}
}

// After the CA has failed a challenge the finding is part of the error.
func TestFailedChallengeIsDiagnosed(t *testing.T) {
	tests := []struct {
		name string
		set  func(w *world, n *internet)
		want string
		is   bool
	}{
		{"leads elsewhere", func(_ *world, n *internet) { n.name("a.example.com", "192.0.2.7") },
			"a.example.com leads to 192.0.2.7: port 443 of 192.0.2.7: connection refused. This server did not get the request: point the name here", true},
		{"leads here", func(*world, *internet) {},
			"a.example.com leads here as seen from this machine (192.0.2.1), so the CA sees something else", false},
		{"leads here in part", func(_ *world, n *internet) { n.name("a.example.com", "192.0.2.1", "2001:db8::7") },
			"port 443 of 2001:db8::7: connection refused; the rest leads here", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				n := w.preflight(preflight.Report)
				w.ca.Resolve("a.example.com", acmetest.Target{})
				tt.set(w, n)
				_, err := w.get("a.example.com")
				var e *certmgr.IssuanceError
				if !errors.As(err, &e) || e.Stage != audit.StageChallenge || len(text.Problems(err)) == 0 {
					t.Fatalf("got %v", err)
				}
				if !strings.Contains(e.Error(), tt.want) || errors.Is(err, certmgr.ErrUnreachable) != tt.is {
					t.Errorf("%v\ndoes not say %q", e, tt.want)
				}
				if found, ok := errors.AsType[*preflight.Error](err); !ok || found.Host != "a.example.com" || len(found.Addrs) == 0 {
					t.Errorf("got %v", found)
				}
				if lookups, _ := n.used(); lookups != 2 {
					t.Errorf("%d lookups", lookups)
				}
				w.wantOrders("a.example.com", 1)
			})
		})
	}
}

// A failure that is not the CA's verdict on a challenge is not diagnosed.
func TestOtherFailuresAreNotDiagnosed(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		n := w.preflight(preflight.Report)
		w.ca.Status(acmetest.Match{Endpoint: acmetest.NewOrder}, http.StatusBadRequest, nil, acmetest.Problem{Type: "rejectedIdentifier", Detail: "no"})
		w.get("a.example.com")
		if lookups, _ := n.used(); lookups != 1 {
			t.Errorf("%d lookups", lookups)
		}
	})
}

// Another machine of a fleet may be the one that answers: the answer is in the
// Cache that they share.
func TestPreflightPassesThroughAFleet(t *testing.T) {
	for _, protos := range [][]string{{"h2", "acme-tls/1"}, {"h2"}} {
		inBubble(t, func(t *testing.T, w *world) {
			other := w.manager()
			defer other.Close()
			n := w.preflight(preflight.Enforce)
			n.listen("192.0.2.1:443", serveTLS(&tls.Config{GetCertificate: other.GetCertificate, NextProtos: protos}, nil))
			_, err := w.get("a.example.com")
			if slices.Contains(protos, "acme-tls/1") {
				if err != nil {
					t.Error(err)
				}
			} else if !errors.Is(err, certmgr.ErrUnreachable) || !strings.Contains(certmgr.InFull(err).Error(), "NextProtos") {
				t.Errorf("got %v", err)
			}
			if s := other.Snapshot(); len(s.Hosts) != 0 {
				t.Errorf("the other machine began something: %+v", s.Hosts)
			}
		})
	}
}

// A failed preflight is about the host: its other key type is held back as well.
func TestPreflightFailureIsOfBothKeyTypes(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		n := w.preflight(preflight.Enforce)
		n.name("a.example.com", "192.0.2.7")
		w.get("a.example.com")
		_, err := w.m.GetCertificate(&tls.ClientHelloInfo{ServerName: "a.example.com", CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256},
			SupportedVersions: []uint16{tls.VersionTLS12}})
		if !errors.Is(err, certmgr.ErrBackoff) || !errors.Is(err, certmgr.ErrUnreachable) {
			t.Errorf("got %v", err)
		}
	})
}
