package certmgr_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/audit"
)

// ownWorld is a bubble whose Manager has own certificates from a folder, which
// set fills.
func ownWorld(t *testing.T, set func(ca *officeCA, dir string), f func(t *testing.T, w *world, ca *officeCA, dir string)) {
	t.Helper()
	dir := t.TempDir()
	inBubble(t, func(t *testing.T, w *world) {
		ca := newOfficeCA(t)
		set(ca, dir)
		w.m.Certificates = certmgr.CertificateFiles(dir)
		f(t, w, ca, dir)
	})
}

// mustServe asks for a name and checks that it gets the leaf of want.
func (w *world) mustServe(name string, want *tls.Certificate) {
	w.t.Helper()
	got, err := w.get(name)
	if err != nil || !bytes.Equal(got.Certificate[0], want.Certificate[0]) {
		w.t.Fatalf("%s was served another certificate: %v", name, err)
	}
}

func (w *world) status(host string) (list []certmgr.HostStatus) {
	for _, st := range w.m.Snapshot().Hosts {
		if st.Host == host {
			list = append(list, st)
		}
	}
	return list
}

// A certificate of the operator's own is served by its names, also those that
// are on no list, and nothing is issued for them.
func TestOwnCertificatesAreServed(t *testing.T) {
	var exact, wild, other *tls.Certificate
	ownWorld(t, func(ca *officeCA, dir string) {
		exact = ca.sign(t, signed{names: []string{"a.example.com", "shop.example.org", "intranet"}, ips: []net.IP{net.ParseIP("192.0.2.7")}})
		wild = ca.sign(t, signed{names: []string{"*.example.org"}, life: 400 * 24 * time.Hour})
		other = ca.sign(t, signed{names: []string{"b.example.com"}})
		putPair(t, dir, "a", exact)
		mkdir(t, filepath.Join(dir, "wild"))
		replaceFile(t, filepath.Join(dir, "wild", "fullchain.pem"), certPEM(wild))
		replaceFile(t, filepath.Join(dir, "wild", "privkey.pem"), keyPEM(t, wild))
		replaceFile(t, filepath.Join(dir, "b.pem"), keyPEM(t, other)+certPEM(other))
	}, func(t *testing.T, w *world, ca *officeCA, dir string) {
		w.m.Start(t.Context())
		for name, want := range map[string]*tls.Certificate{
			"a.example.com": exact, "A.Example.com.": exact, "shop.example.org": exact, "intranet": exact, "Intranet.": exact,
			"x.example.org": wild, "b.example.com": other,
		} {
			w.mustServe(name, want)
		}
		w.wantErr("x.y.example.org", certmgr.ErrHostNotAllowed)
		w.wantErr("example.org", certmgr.ErrHostNotAllowed)
		w.wantErr("other", certmgr.ErrBadServerName)
		time.Sleep(time.Hour) // Start begins with c.example.com at once
		w.mustGet("c.example.com")
		for _, host := range []string{"a.example.com", "b.example.com", "shop.example.org"} {
			if n := len(w.ca.IssuedFor(host)); n != 0 {
				t.Errorf("%d certificates were issued for %s", n, host)
			}
			if err := w.m.Obtain(t.Context(), host); err != nil {
				t.Errorf("Obtain(%s): %v", host, err)
			}
		}
		if err := w.m.Renew(t.Context(), "a.example.com"); !errors.Is(err, certmgr.ErrOwnCertificate) || !strings.Contains(err.Error(), "a.crt") {
			t.Errorf("Renew: %v", err)
		}
		if n := len(w.ca.IssuedFor("d.example.com")); n != 1 {
			t.Errorf("Start issued %d certificates for d.example.com", n)
		}
		loaded := w.events.of(audit.OwnCertificateLoaded)
		if len(loaded) != 3 {
			t.Errorf("events: %v", loaded)
		}
		st := w.status("a.example.com")
		if len(st) != 1 || st[0].State != certmgr.StateValid || st[0].Source != filepath.Join(dir, "a.crt") || st[0].RenewalCause != certmgr.RenewalCauseOwn {
			t.Errorf("status: %+v", st)
		}
		if st := w.status("*.example.org"); len(st) != 1 || st[0].Issuer == "" {
			t.Errorf("status: %+v", st)
		}
		if !w.m.MayResume(tls.ConnectionState{ServerName: "shop.example.org"}) || !w.m.MayResume(tls.ConnectionState{ServerName: "intranet"}) {
			t.Error("a session of an own certificate is not resumed")
		}
		if c := w.m.Metrics().HostCounts; !c.OwnSoonestExpiry.Equal(leafOf(t, exact).NotAfter) {
			t.Errorf("soonest expiry %v", c.OwnSoonestExpiry)
		}
	})
}

// A client gets a certificate whose key it can use.
func TestOwnCertificateFitsTheClient(t *testing.T) {
	var p384, rsa, ed *tls.Certificate
	ownWorld(t, func(ca *officeCA, dir string) {
		p384 = ca.sign(t, signed{names: []string{"a.example.com"}, key: newP384Key(t)})
		rsa = ca.sign(t, signed{names: []string{"a.example.com", "r.example.org"}, key: newRSAKey(t)})
		ed = ca.sign(t, signed{names: []string{"e.example.org"}, key: newEd25519Key(t)})
		putPair(t, dir, "p384", p384)
		putPair(t, dir, "rsa", rsa)
		putPair(t, dir, "ed", ed)
	}, func(t *testing.T, w *world, ca *officeCA, dir string) {
		for name, test := range map[string]struct {
			host    string
			schemes []tls.SignatureScheme
			want    *tls.Certificate
		}{
			"both":        {"a.example.com", []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256, tls.ECDSAWithP384AndSHA384, tls.PSSWithSHA256}, p384},
			"not P-384":   {"a.example.com", []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256, tls.PSSWithSHA256}, rsa},
			"RSA only":    {"a.example.com", []tls.SignatureScheme{tls.PSSWithSHA256}, rsa},
			"ECDSA only":  {"r.example.org", []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256}, rsa}, // nothing else is there
			"Ed25519":     {"e.example.org", []tls.SignatureScheme{tls.Ed25519}, ed},
			"no Ed25519":  {"e.example.org", []tls.SignatureScheme{tls.PSSWithSHA256}, ed}, // crypto/tls says so to the client
			"a hand-made": {"a.example.com", nil, p384},
		} {
			hello := &tls.ClientHelloInfo{ServerName: test.host}
			if test.schemes != nil {
				hello.SignatureSchemes, hello.SupportedVersions = test.schemes, []uint16{tls.VersionTLS13}
				hello.SupportedCurves = []tls.CurveID{tls.CurveP256, tls.CurveP384}
			}
			got, err := w.m.GetCertificate(hello)
			if err != nil || !bytes.Equal(got.Certificate[0], test.want.Certificate[0]) {
				t.Errorf("%s: another certificate, %v", name, err)
			}
		}
		if n := len(w.ca.Issued()); n != 0 {
			t.Errorf("%d certificates were issued", n)
		}
	})
}

// Before the end of an own certificate that nobody replaces, one is issued for
// a host on the list, without a visitor, and served from the end on.
func TestIssuanceTakesOverFromAnOwnCertificate(t *testing.T) {
	t.Parallel()
	var own *tls.Certificate
	ownWorld(t, func(ca *officeCA, dir string) {
		own = ca.sign(t, signed{names: []string{"a.example.com", "x.example.org"}})
		putPair(t, dir, "a", own)
	}, func(t *testing.T, w *world, ca *officeCA, dir string) {
		w.m.CertificatesEvery = 10 * time.Minute
		end := leafOf(t, own).NotAfter
		w.mustServe("a.example.com", own)
		time.Sleep(time.Until(end.Add(-17 * 24 * time.Hour)))
		w.mustServe("a.example.com", own)
		if n := len(w.ca.Issued()); n != 0 {
			t.Fatalf("%d certificates were issued 17 days before the end", n)
		}
		time.Sleep(3 * 24 * time.Hour)
		if n := len(w.ca.IssuedFor("a.example.com")); n != 1 {
			t.Fatalf("%d certificates were issued for a.example.com 14 days before the end", n)
		}
		w.mustServe("a.example.com", own)
		st := w.status("a.example.com")
		if len(st) != 1 || !st[0].Successor.After(end) || st[0].IsLate() {
			t.Errorf("status: %+v", st)
		}
		if e := w.events.of(audit.OwnCertificateExpiring); len(e) != 1 || !strings.Contains(e[0].Reason, "a.crt") {
			t.Errorf("events: %v", e)
		}
		if x := w.status("x.example.org"); len(x) != 1 || x[0].IsLate() {
			t.Errorf("status: %+v", x)
		}
		time.Sleep(time.Until(end.Add(-24 * time.Hour)))
		if x := w.status("x.example.org"); len(x) != 1 || !x[0].IsLate() || !strings.Contains(x[0].Cause().Error(), "a.crt") {
			t.Errorf("nothing takes the place of the certificate of x.example.org: %+v", x)
		}
		if c := w.m.Metrics(); c.RenewalsLate != 1 || !c.OwnSoonestExpiry.Equal(end) {
			t.Errorf("metrics: %+v", c.HostCounts)
		}
		time.Sleep(48 * time.Hour)
		cert := w.mustGet("a.example.com")
		if bytes.Equal(cert.Certificate[0], own.Certificate[0]) {
			t.Error("an expired certificate was served")
		}
		w.wantErr("x.example.org", certmgr.ErrHostNotAllowed)
		if st := w.status("a.example.com"); len(st) != 1 || st[0].State != certmgr.StateValid || st[0].Source != "" {
			t.Errorf("status: %+v", st)
		}
		if x := w.status("x.example.org"); len(x) != 1 || x[0].State != certmgr.StateExpired {
			t.Errorf("status: %+v", x)
		}
		if e := w.events.of(audit.CertificateExpired); len(e) != 1 {
			t.Errorf("events: %v", e)
		}
		if w.m.MayResume(tls.ConnectionState{ServerName: "x.example.org"}) || !w.m.MayResume(tls.ConnectionState{ServerName: "a.example.com"}) {
			t.Error("a session is resumed that a handshake would refuse, or the other way")
		}
	})
}

// A certificate that is taken away is replaced at once for a host on the list,
// and a renewal that waited for it comes.
func TestOwnCertificateIsTakenAway(t *testing.T) {
	t.Parallel()
	var own *tls.Certificate
	ownWorld(t, func(ca *officeCA, dir string) {}, func(t *testing.T, w *world, ca *officeCA, dir string) {
		w.m.CertificatesEvery = 10 * time.Minute
		issued := w.mustGet("b.example.com")
		own = ca.sign(t, signed{names: []string{"a.example.com", "b.example.com", "*.example.com"}, life: 300 * 24 * time.Hour})
		putPair(t, dir, "own", own)
		time.Sleep(31 * time.Minute)
		w.mustServe("a.example.com", own)
		w.mustServe("b.example.com", own)
		w.mustServe("c.example.com", own)
		time.Sleep(time.Until(issued.Leaf.NotAfter.Add(time.Hour)))
		if n := len(w.ca.Issued()); n != 1 || len(w.events.of(audit.RenewalLate))+len(w.events.of(audit.CertificateExpired)) != 0 {
			t.Fatalf("%d certificates were issued; %v", n, w.events)
		}
		remove(t, filepath.Join(dir, "own.crt"))
		remove(t, filepath.Join(dir, "own.key"))
		time.Sleep(time.Hour)
		for _, host := range []string{"a.example.com", "b.example.com", "c.example.com", "d.example.com"} {
			want := 1
			if host == "b.example.com" {
				want = 2
			}
			if n := len(w.ca.IssuedFor(host)); n != want {
				t.Errorf("%d certificates were issued for %s, want %d", n, host, want)
			}
			w.mustGet(host)
		}
		w.wantErr("e.example.com", certmgr.ErrHostNotAllowed)
		if e := w.events.of(audit.OwnCertificateRemoved); len(e) != 1 {
			t.Errorf("events: %v", e)
		}
	})
}

// A source that hangs delays the first handshakes for 5 seconds at most, and no
// later ones; one that panics changes nothing.
func TestOwnSourceThatFails(t *testing.T) {
	hang := make(chan struct{})
	defer close(hang)
	for name, source := range map[string]certmgr.CertificateSource{
		"ignores its context": func(context.Context) ([]certmgr.OwnCertificate, error) { <-hang; return nil, nil },
		"waits":               func(ctx context.Context) ([]certmgr.OwnCertificate, error) { <-ctx.Done(); return nil, ctx.Err() },
		"panics":              func(context.Context) ([]certmgr.OwnCertificate, error) { panic("broken") },
		"fails":               func(context.Context) ([]certmgr.OwnCertificate, error) { return nil, errors.New("no vault") },
	} {
		t.Run(name, func(t *testing.T) {
			var closed error
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				defer w.ca.Close()
				release := make(chan struct{})
				src := source
				if name == "ignores its context" {
					src = func(context.Context) ([]certmgr.OwnCertificate, error) { <-release; return nil, nil }
				}
				w.m.Certificates = src
				began := time.Now()
				w.mustGet("a.example.com")
				if took := time.Since(began); took > 6*time.Second {
					t.Errorf("the first handshake took %v", took)
				}
				began = time.Now()
				w.mustGet("a.example.com")
				if took := time.Since(began); took > 0 {
					t.Errorf("the second handshake took %v", took)
				}
				time.Sleep(time.Hour)
				e := w.events.of(audit.OwnCertificateRejected)
				if len(e) == 0 || len(e) > 2 {
					t.Errorf("events: %v", e)
				}
				warnings := w.m.Snapshot().Warnings
				if !slices.ContainsFunc(warnings, func(s string) bool { return strings.Contains(s, "Manager.Certificates") }) {
					t.Errorf("warnings: %q", warnings)
				}
				closed = w.m.Close()
				close(release)
			})
			if (closed != nil) != (name == "ignores its context") {
				t.Errorf("Close: %v", closed)
			}
		})
	}
}

// A handshake does not wait longer for source, policy and issuance together than
// HandshakeWait.
func TestOwnSourceAndHandshakeWait(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.Certificates = func(ctx context.Context) ([]certmgr.OwnCertificate, error) { <-ctx.Done(); return nil, ctx.Err() }
		w.m.HandshakeWait = 3 * time.Second
		w.cache.get(func(ctx context.Context, _ string) error { <-ctx.Done(); return ctx.Err() })
		began := time.Now()
		w.get("a.example.com")
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("a handshake took %v", took)
		}
	})
}
