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

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/preflight"
)

func allowAny(context.Context, string) error { return nil }

// addressWorld is a bubble whose list holds addresses.
func addressWorld(t *testing.T, f func(t *testing.T, w *world), set ...func(ca *acmetest.Server)) {
	t.Helper()
	inBubble(t, func(t *testing.T, w *world) {
		w.m.Hosts = certmgr.MustAllowlist("192.0.2.1", "[2001:DB8::1]", "a.example.com")
		f(t, w)
	}, set...)
}

// mustObtain gets a certificate for an address, whose only name it is.
func (w *world) mustObtain(addr string) {
	w.t.Helper()
	if err := w.m.Obtain(w.t.Context(), addr); err != nil {
		w.t.Fatalf("Obtain(%q): %v", addr, err)
	}
}

// csr returns the last request for an address.
func (w *world) wantCSR(addr string, n int) {
	w.t.Helper()
	csrs := w.ca.CSRsFor(addr)
	if len(csrs) != n {
		w.t.Fatalf("%d certificate requests for %s, want %d", len(csrs), addr, n)
	}
	csr := csrs[n-1]
	if len(csr.DNSNames) != 0 || len(csr.IPAddresses) != 1 || !csr.IPAddresses[0].Equal(net.ParseIP(addr)) || csr.Subject.CommonName != "" {
		w.t.Errorf("the request is for %q, %v, %q", csr.DNSNames, csr.IPAddresses, csr.Subject.CommonName)
	}
}

// An address gets its certificate by either challenge, whose answer the CA
// finds as RFC 8738 has it. Its keys in the Cache have no colons, and a restart
// finds them.
func TestAddressIsCertified(t *testing.T) {
	for _, typ := range []string{"tls-alpn-01", "http-01"} {
		t.Run(typ, func(t *testing.T) {
			addressWorld(t, func(t *testing.T, w *world) {
				w.ca.Resolve("*", acmetest.Target{TLSConfig: w.m.TLSConfig(), HTTPHandler: w.m.HTTPHandler(nil)})
				for addr, key := range map[string]string{"192.0.2.1": "192.0.2.1", "2001:db8::1": "2001_db8__1"} {
					w.mustObtain(addr)
					w.wantCSR(addr, 1)
					if _, err := w.cache.Cache.Get(t.Context(), key); err != nil {
						t.Errorf("the Cache has nothing under %q: %v", key, err)
					}
				}
				synctest.Wait()
				for _, key := range append(w.cache.reads(), w.cache.puts...) {
					if strings.ContainsAny(key, ":[]") {
						t.Errorf("a key of the Cache is %q", key)
					}
				}
				w.restart()
				w.m.Hosts = certmgr.MustAllowlist("192.0.2.1", "2001:db8::1")
				w.mustObtain("2001:0db8:0::0001")
				w.mustObtain("::ffff:192.0.2.1")
				w.wantOrders("2001:db8::1", 1)
				w.wantOrders("192.0.2.1", 1)
			}, func(ca *acmetest.Server) { ca.Challenges = []string{typ} })
		})
	}
}

// The answer to a challenge for an address may be another machine's.
func TestAddressIsAnsweredByAnotherMachine(t *testing.T) {
	for _, typ := range []string{"tls-alpn-01", "http-01"} {
		t.Run(typ, func(t *testing.T) {
			addressWorld(t, func(t *testing.T, w *world) {
				w.m.HTTPHandler(nil) // or it would not take http-01
				other := w.manager()
				other.Hosts = w.m.Hosts
				defer other.Close()
				w.ca.Resolve("*", acmetest.Target{TLSConfig: other.TLSConfig(), HTTPHandler: other.HTTPHandler(nil)})
				w.mustObtain("2001:db8::1")
				w.mustObtain("192.0.2.1")
			}, func(ca *acmetest.Server) { ca.Challenges = []string{typ} })
		})
	}
}

// A reverse name stands for an address in challenges alone.
func TestReverseNameIsForChallenges(t *testing.T) {
	addressWorld(t, func(t *testing.T, w *world) {
		w.mustObtain("192.0.2.1")
		const reverse = "1.2.0.192.in-addr.arpa"
		w.wantErr(reverse, certmgr.ErrHostNotAllowed)
		w.m.Obtain(t.Context(), reverse)
		w.wantOrders(reverse, 0)
		_, err := w.m.GetCertificate(&tls.ClientHelloInfo{ServerName: reverse, SupportedProtos: []string{acme.ALPNProto}})
		if !errors.Is(err, certmgr.ErrCacheMiss) || !strings.Contains(err.Error(), "192.0.2.1") {
			t.Errorf("without a pending challenge: %v", err)
		}
		w.cache.reads()
		_, err = w.m.GetCertificate(&tls.ClientHelloInfo{ServerName: "2.2.0.192.in-addr.arpa", SupportedProtos: []string{acme.ALPNProto}})
		if !errors.Is(err, certmgr.ErrHostNotAllowed) || len(w.cache.reads()) != 0 {
			t.Errorf("of an address that is not allowed: %v", err)
		}
	})
}

// Everything that operators do to a host they can do to an address.
func TestOperationsOnAddresses(t *testing.T) {
	addressWorld(t, func(t *testing.T, w *world) {
		const addr = "2001:db8::1"
		if !w.m.Hosts.Contains("[2001:db8::1]") || w.m.Hosts.Contains("2001:db8::2") || w.m.Hosts.Contains("192.0.2.10") {
			t.Error("Contains does not tell the addresses apart")
		}
		w.mustObtain(addr)
		if err := w.m.Renew(t.Context(), "2001:DB8::1"); err != nil {
			t.Fatal(err)
		}
		w.wantCSR(addr, 2)
		if err := w.m.Revoke(t.Context(), "[2001:db8::1]", acme.CRLReasonSuperseded); err != nil {
			t.Fatal(err)
		}
		res, err := w.m.Act(t.Context(), certmgr.Action{Kind: certmgr.ActionRenew, Host: "[2001:db8::1]", Actor: "alice"})
		if err != nil {
			t.Fatalf("%+v, %v", res, err)
		}
		synctest.Wait()
		var names []string
		for _, h := range w.m.Snapshot().Hosts {
			names = append(names, h.Host)
		}
		if !slices.Contains(names, addr) {
			t.Errorf("the snapshot has %q", names)
		}
		w.m.Hosts.Remove("2001:0db8::1")
		if w.m.Hosts.Contains(addr) || len(w.events.of(audit.HostUnlisted)) != 1 {
			t.Error("it is still on the list")
		}
	})
}

// Strangers choose no address to be ordered: a policy that allows any host does
// not mean them, nor one that no public CA certifies.
func TestAddressesOfPolicies(t *testing.T) {
	for name, test := range map[string]struct {
		policy certmgr.HostPolicy
		addr   string
		want   error
	}{
		"any host":                    {certmgr.AllowAnyHost, "8.8.8.8", certmgr.ErrBadServerName},
		"whitelist":                   {certmgr.HostWhitelist("[fd00::1]"), "fd00::1", nil},
		"another one":                 {certmgr.HostWhitelist("fd00::1"), "fd00::2", certmgr.ErrHostNotAllowed},
		"policy, public address":      {allowAny, "8.8.8.8", nil},
		"policy, private address":     {allowAny, "10.0.0.1", certmgr.ErrBadServerName},
		"policy, loopback address":    {allowAny, "::1", certmgr.ErrBadServerName},
		"policy, unspecified address": {allowAny, "0.0.0.0", certmgr.ErrBadServerName},
	} {
		t.Run(name, func(t *testing.T) {
			policyWorld(t, test.policy, func(t *testing.T, w *world) {
				if err := w.m.Obtain(t.Context(), test.addr); !errors.Is(err, test.want) {
					t.Errorf("%v, want %v", err, test.want)
				}
				if n := w.ca.Count(acmetest.NewOrder); (n == 1) != (test.want == nil) {
					t.Errorf("%d orders", n)
				}
			})
		})
	}
}

// A preflight asks an address itself, and no resolver; and as the operator has
// listed it, also one that no name may lead to.
func TestPreflightOfAddresses(t *testing.T) {
	t.Parallel()
	for _, addr := range []string{"192.0.2.9", "2001:db8::9", "127.0.0.1", "::1"} {
		t.Run(addr, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.m.Hosts = certmgr.MustAllowlist(addr)
				n := w.preflight(preflight.Enforce)
				w.m.HTTPHandler(nil)
				if err := certmgr.CheckHost(t.Context(), w.m, addr); !errors.Is(err, certmgr.ErrUnreachable) ||
					!strings.Contains(err.Error(), "have the address lead here") || strings.Contains(err.Error(), "name here") {
					t.Errorf("nothing listens: %v", err)
				}
				n.listen(net.JoinHostPort(addr, "443"), serveTLS(w.m.TLSConfig(), nil))
				err := certmgr.CheckHost(t.Context(), w.m, addr)
				if found, ok := errors.AsType[*preflight.Error](err); !ok || !found.Reachable {
					t.Errorf("port 443 answers: %v", err)
				}
				w.mustObtain(addr)
				if lookups, dials := n.used(); lookups != 0 || dials == 0 {
					t.Errorf("%d lookups, %d connections", lookups, dials)
				}
			})
		})
	}
}

// An http-01 preflight of an IPv6 address has it in brackets.
func TestPreflightOfAddressOverHTTP(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.Hosts = certmgr.MustAllowlist("2001:db8::9")
		n := w.preflight(preflight.Enforce)
		var host string
		handler := w.m.HTTPHandler(nil)
		n.listen("[2001:db8::9]:80", serveHTTP(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			host = r.Host
			handler.ServeHTTP(rw, r)
		})))
		err := certmgr.CheckHost(t.Context(), w.m, "2001:db8::9")
		if found, ok := errors.AsType[*preflight.Error](err); !ok || !found.Reachable || host != "[2001:db8::9]" {
			t.Errorf("%v; the Host was %q", err, host)
		}
	})
}

// An address on the list that does not lead here waits, and is probed until it
// does.
func TestAddressWaitsUntilItLeadsHere(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.Hosts = certmgr.MustAllowlist("192.0.2.9")
		n := w.preflight(preflight.Enforce)
		if err := w.m.Obtain(t.Context(), "192.0.2.9"); !errors.Is(err, certmgr.ErrUnreachable) {
			t.Fatalf("Obtain: %v", err)
		}
		w.wantOrders("192.0.2.9", 0)
		for _, h := range w.m.Snapshot().Hosts {
			if h.State != certmgr.StateWaitingForDNS {
				t.Errorf("%s: state %v", h.Host, h.State)
			}
		}
		n.listen("192.0.2.9:443", serveTLS(w.m.TLSConfig(), nil))
		time.Sleep(time.Hour)
		w.wantOrders("192.0.2.9", 1)
	})
}

// Let's Encrypt certifies addresses by one profile alone. It is asked for
// without a setting, if the CA lists it; a setting counts as for any host.
func TestProfileOfAddresses(t *testing.T) {
	letsEncrypt := func(ca *acmetest.Server) { ca.Profiles = acmetest.LetsEncryptProfiles() }
	addressWorld(t, func(t *testing.T, w *world) {
		w.mustObtain("192.0.2.1")
		cert, err := w.without("", connTo("192.0.2.1"))
		if err != nil || cert.Leaf.NotAfter.Sub(cert.Leaf.NotBefore) > 161*time.Hour {
			t.Errorf("the certificate of an address: %v", err)
		}
		w.mustGet("a.example.com")
		for _, e := range w.events.of(audit.CertificateIssued) {
			if want := map[string]string{"192.0.2.1": "shortlived"}[e.Host]; e.Profile != want {
				t.Errorf("%s: profile %q, want %q", e.Host, e.Profile, want)
			}
		}
		time.Sleep(6 * day)
		cert, err = w.without("", connTo("192.0.2.1"))
		if err != nil || time.Now().After(cert.Leaf.NotAfter) {
			t.Errorf("after 6 days: %v", err)
		}
		w.wantCSR("192.0.2.1", 2) // half of the lifetime is left when it is renewed
	}, letsEncrypt)
	addressWorld(t, func(t *testing.T, w *world) {
		w.m.Profile = "tlsserver"
		if err := w.m.Obtain(t.Context(), "192.0.2.1"); err == nil {
			t.Error("a profile that is set is not asked for")
		}
	}, letsEncrypt)
	addressWorld(t, func(t *testing.T, w *world) {
		w.mustObtain("192.0.2.1")
	}, func(ca *acmetest.Server) { ca.Profiles = nil })
}

// Let's Encrypt is asked for addresses of private networks as for any other, but
// not without a warning. A CA of one's own may certify them.
func TestPrivateAddressesAtLetsEncryptAreAWarning(t *testing.T) {
	for addr, test := range map[string]struct {
		directory string
		warned    bool
	}{
		"10.0.0.1": {certmgr.LetsEncryptStagingURL, true},
		"::1":      {certmgr.DefaultACMEDirectory, true},
		"8.8.8.8":  {certmgr.DefaultACMEDirectory, false},
		"10.0.0.2": {"https://ca.internal/directory", false},
	} {
		t.Run(addr, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.m.Hosts = certmgr.MustAllowlist(addr)
				w.m.Client = &acme.Client{DirectoryURL: test.directory, HTTPClient: &http.Client{Transport: unreachable{}}}
				w.m.Obtain(t.Context(), addr)
				warned := w.events.of(audit.ConfigurationWarning)
				if (len(warned) == 1) != test.warned || test.warned && !strings.Contains(warned[0].Reason, "PublicAddrs") {
					t.Errorf("warnings: %v", warned)
				}
			})
		})
	}
}

// unreachable is a network without a CA.
type unreachable struct{}

func (unreachable) RoundTrip(*http.Request) (*http.Response, error) {
	return nil, errors.New("no network")
}
