package certmgr_test

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/cache"
)

// Whatever becomes of the configuration, sessions of a host that is served are
// resumed, and none of a host that is not.
func TestConfigurationsThatResume(t *testing.T) {
	keys := func(bytes ...byte) (keys [][32]byte) {
		for _, b := range bytes {
			keys = append(keys, [32]byte{b})
		}
		return keys
	}
	for name, after := range map[string]func(w *world, config *tls.Config) (first, second *tls.Config){
		"as it is": func(_ *world, c *tls.Config) (_, _ *tls.Config) { return c, c },
		"a clone":  func(_ *world, c *tls.Config) (_, _ *tls.Config) { c = c.Clone(); return c, c },
		"two clones, of two servers": func(_ *world, c *tls.Config) (_, _ *tls.Config) {
			return c.Clone(), c.Clone()
		},
		"a clone of a clone": func(_ *world, c *tls.Config) (_, _ *tls.Config) { return c, c.Clone().Clone() },
		"its tickets turned off after cloning": func(_ *world, c *tls.Config) (_, _ *tls.Config) {
			first, second := c.Clone(), c.Clone()
			c.SessionTicketsDisabled = true
			return first, second
		},
		"client certificates wanted": func(_ *world, c *tls.Config) (_, _ *tls.Config) {
			c.ClientAuth, c.ClientCAs = tls.VerifyClientCertIfGiven, x509.NewCertPool()
			return c, c
		},
		"keys set": func(_ *world, c *tls.Config) (_, _ *tls.Config) {
			c.SetSessionTicketKeys(keys(1))
			return c, c.Clone()
		},
		"keys set after cloning": func(_ *world, c *tls.Config) (_, _ *tls.Config) {
			clone := c.Clone()
			c.SetSessionTicketKeys(keys(1))
			return c, clone
		},
		"keys of two Managers": func(w *world, c *tls.Config) (_, _ *tls.Config) {
			other := w.manager()
			w.t.Cleanup(func() { other.Close() })
			if err := other.Obtain(w.t.Context(), "a.example.com"); err != nil {
				w.t.Fatal(err)
			}
			theirs := other.TLSConfig()
			theirs.SetSessionTicketKeys(keys(2, 1))
			c.SetSessionTicketKeys(keys(1))
			return c, theirs
		},
		"functions of one's own": func(w *world, c *tls.Config) (_, _ *tls.Config) {
			own := &tls.Config{GetCertificate: w.m.GetCertificate}
			own.WrapSession = own.EncryptTicket
			own.UnwrapSession = func(ticket []byte, cs tls.ConnectionState) (*tls.SessionState, error) {
				if !w.m.MayResume(cs) {
					return nil, nil
				}
				return own.DecryptTicket(ticket, cs)
			}
			return own, own
		},
		"its own WrapSession alone": func(_ *world, c *tls.Config) (_, _ *tls.Config) {
			c.WrapSession = c.EncryptTicket
			return c, c
		},
	} {
		for _, version := range tlsVersions {
			t.Run(name+"/"+tls.VersionName(version), func(t *testing.T) {
				inBubble(t, func(t *testing.T, w *world) {
					w.mustGet("a.example.com")
					first, second := after(w, w.m.TLSConfig())
					client := w.client("a.example.com")
					client.MaxVersion = version
					w.wantFull(first, client)
					w.wantResumed(second, client)
					w.wantResumed(second, client)
					if name == "keys of two Managers" {
						return
					}
					w.m.Hosts.Remove("a.example.com")
					if _, err := visit(t, second, client); err == nil {
						t.Error("the session of a removed host is resumed")
					}
				})
			})
		}
	}
}

func TestConfigurationsThatDoNotResume(t *testing.T) {
	for name, after := range map[string]func(w *world, config *tls.Config) (first, second *tls.Config){
		"tickets turned off": func(_ *world, c *tls.Config) (_, _ *tls.Config) {
			c.SessionTicketsDisabled = true
			return c, c.Clone()
		},
		"tickets of the clone turned off": func(_ *world, c *tls.Config) (_, _ *tls.Config) {
			clone := c.Clone()
			clone.SessionTicketsDisabled = true
			return c, clone
		},
		"two calls of TLSConfig": func(w *world, c *tls.Config) (_, _ *tls.Config) { return c, w.m.TLSConfig() },
		"client certificates demanded by the clone": func(_ *world, c *tls.Config) (_, _ *tls.Config) {
			clone := c.Clone()
			clone.ClientAuth = tls.RequireAnyClientCert
			return c, clone
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.mustGet("a.example.com")
				first, second := after(w, w.m.TLSConfig())
				client := w.client("a.example.com")
				w.wantFull(first, client)
				if resumed, _ := visit(t, second, client); resumed {
					t.Error("the session is resumed")
				}
			})
		})
	}
}

// Keys are rotated: by crypto/tls once a day, and by SetSessionTicketKeys, which
// applies to clones as well.
func TestSessionsOutliveTheirKeys(t *testing.T) {
	t.Run("crypto/tls", func(t *testing.T) {
		forVersions(t, func(*acmetest.Server) {}, func(t *testing.T, w *world, server, client *tls.Config) {
			time.Sleep(30 * time.Hour)
			w.wantResumed(server.Clone(), client)
			late := w.client("a.example.com")
			w.wantFull(server, late)
			time.Sleep(8 * day) // a ticket is good for a week
			w.wantFull(server, late)
		})
	})
	t.Run("SetSessionTicketKeys", func(t *testing.T) {
		forVersions(t, func(*acmetest.Server) {}, func(t *testing.T, w *world, server, client *tls.Config) {
			clone := server.Clone()
			server.SetSessionTicketKeys([][32]byte{{1}})
			w.wantFull(clone, client)
			server.SetSessionTicketKeys([][32]byte{{2}, {1}})
			w.wantResumed(clone, client) // and has a ticket with key 2
			server.SetSessionTicketKeys([][32]byte{{2}})
			w.wantResumed(clone, client)
			server.SetSessionTicketKeys([][32]byte{{3}})
			w.wantFull(clone, client)
		})
	})
}

// A server of net/http clones its configuration, and Listener's connections
// have it as it is.
func TestServersResume(t *testing.T) {
	for name, serve := range map[string]func(m *certmgr.Manager, server *http.Server, ln net.Listener) error{
		"ServeTLS": func(m *certmgr.Manager, server *http.Server, ln net.Listener) error {
			server.TLSConfig = m.TLSConfig()
			return server.ServeTLS(ln, "", "")
		},
		"Listener": func(m *certmgr.Manager, server *http.Server, ln net.Listener) error {
			return server.Serve(certmgr.ListenerOn(m, ln))
		},
	} {
		t.Run(name, func(t *testing.T) {
			ca := acmetest.NewMemoryServer()
			defer ca.Close()
			m := &certmgr.Manager{
				Prompt: certmgr.AcceptTOS,
				Cache:  new(cache.Memory),
				Hosts:  certmgr.MustAllowlist("a.example.com"),
				Client: &acme.Client{DirectoryURL: ca.URL, HTTPClient: ca.Client()},
				Audit:  new(recorder).hook,
			}
			defer m.Close()
			ca.Resolve("*", acmetest.Target{TLSConfig: m.TLSConfig()})
			if err := m.Obtain(t.Context(), "a.example.com"); err != nil {
				t.Fatal(err)
			}
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			server := &http.Server{
				Handler:  http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello\n") }),
				ErrorLog: log.New(io.Discard, "", 0),
			}
			var wg sync.WaitGroup
			wg.Go(func() { serve(m, server, ln) })
			defer wg.Wait()
			defer server.Close()
			sessions := tls.NewLRUClientSessionCache(4)
			get := func() (resumed bool, err error) {
				client := &http.Client{Transport: &http.Transport{
					DisableKeepAlives: true,
					TLSClientConfig:   &tls.Config{ServerName: "a.example.com", RootCAs: ca.Roots(), ClientSessionCache: sessions},
				}}
				res, err := client.Get("https://" + ln.Addr().String())
				if err != nil {
					return false, err
				}
				defer res.Body.Close()
				_, err = io.ReadAll(res.Body)
				return res.TLS.DidResume, err
			}
			for i := range 3 {
				if resumed, err := get(); err != nil || resumed != (i > 0) {
					t.Fatalf("visit %d: resumed %v, error %v", i, resumed, err)
				}
			}
			m.Hosts.Remove("a.example.com")
			if _, err := get(); err == nil {
				t.Error("the session of a removed host is resumed")
			}
		})
	}
}
