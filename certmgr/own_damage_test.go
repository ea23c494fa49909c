package certmgr_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/audit"
)

// leafOf returns the leaf of a certificate.
func leafOf(t testing.TB, c *tls.Certificate) *x509.Certificate {
	t.Helper()
	leaf, err := x509.ParseCertificate(c.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	return leaf
}

// Whatever becomes of the files of a certificate, the good one that is in
// service stays there until it expires, and an event names the file, once.
func TestDamagedPairReplacesNoGoodOne(t *testing.T) {
	crt := func(dir string) string { return filepath.Join(dir, "a.crt") }
	key := func(dir string) string { return filepath.Join(dir, "a.key") }
	for name, test := range map[string]struct {
		spoil func(t *testing.T, ca *officeCA, dir string)
		says  string
	}{
		"certificate cut short": {func(t *testing.T, ca *officeCA, dir string) {
			whole := certPEM(ca.sign(t, signed{names: []string{"a.example.com"}}))
			rewrite(t, crt(dir), whole[:len(whole)/3])
		}, "cut short"},
		"empty": {func(t *testing.T, ca *officeCA, dir string) { rewrite(t, crt(dir), "") }, "no certificate"},
		"key cut short": {func(t *testing.T, ca *officeCA, dir string) {
			rewrite(t, key(dir), keyPEM(t, ca.sign(t, signed{}))[:50])
		}, "cut short"},
		"key missing": {func(t *testing.T, ca *officeCA, dir string) { remove(t, key(dir)) }, "no private key"},
		"other key":   {func(t *testing.T, ca *officeCA, dir string) { rewrite(t, key(dir), keyPEM(t, ca.sign(t, signed{}))) }, "write both files again"},
		"only new chain": {func(t *testing.T, ca *officeCA, dir string) {
			rewrite(t, crt(dir), certPEM(ca.sign(t, signed{names: []string{"a.example.com"}})))
		}, "write both files again"},
		"expired": {func(t *testing.T, ca *officeCA, dir string) {
			putPair(t, dir, "a", ca.sign(t, signed{names: []string{"a.example.com"}, from: time.Now().AddDate(-1, 0, 0), life: time.Hour}))
		}, "expired"},
		"not valid yet": {func(t *testing.T, ca *officeCA, dir string) {
			putPair(t, dir, "a", ca.sign(t, signed{names: []string{"a.example.com"}, from: time.Now().AddDate(0, 1, 0)}))
		}, "valid from"},
		"P-224": {func(t *testing.T, ca *officeCA, dir string) {
			putPair(t, dir, "a", ca.sign(t, signed{names: []string{"a.example.com"}, key: newP224Key(t)}))
		}, "a.crt"},
		"no names": {func(t *testing.T, ca *officeCA, dir string) { putPair(t, dir, "a", ca.sign(t, signed{})) }, "no names"},
		"for clients": {func(t *testing.T, ca *officeCA, dir string) {
			putPair(t, dir, "a", ca.sign(t, signed{names: []string{"a.example.com"}, change: func(c *x509.Certificate) {
				c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
			}}))
		}, "serverAuth"},
		"a leaf alone": {func(t *testing.T, ca *officeCA, dir string) {
			c := ca.signBelow(t, signed{names: []string{"a.example.com"}})
			c.Certificate = c.Certificate[:1]
			putPair(t, dir, "a", c)
		}, "issuer"},
		"encrypted key": {func(t *testing.T, ca *officeCA, dir string) {
			rewrite(t, key(dir), strings.ReplaceAll(keyPEM(t, ca.sign(t, signed{})), "PRIVATE KEY", "ENCRYPTED PRIVATE KEY"))
		}, "encrypted"},
		"too large":   {func(t *testing.T, ca *officeCA, dir string) { os.Truncate(crt(dir), 1<<20) }, "more than"},
		"a directory": {func(t *testing.T, ca *officeCA, dir string) { remove(t, dir); rewrite(t, dir, "not a folder") }, "folder"},
	} {
		t.Run(name, func(t *testing.T) {
			var own *tls.Certificate
			ownWorld(t, func(ca *officeCA, dir string) {
				own = ca.signBelow(t, signed{names: []string{"a.example.com"}})
				putPair(t, dir, "a", own)
			}, func(t *testing.T, w *world, ca *officeCA, dir string) {
				w.mustServe("a.example.com", own)
				time.Sleep(time.Minute)
				test.spoil(t, ca, dir)
				time.Sleep(10 * time.Minute)
				w.mustServe("a.example.com", own)
				e := w.events.of(audit.OwnCertificateRejected)
				says := func(e audit.Event) bool { return strings.Contains(e.String(), test.says) }
				if len(e) == 0 || len(e) > 2 || !e[0].IsFailure() || !slices.ContainsFunc(e, says) || !strings.Contains(e[0].String(), dir) {
					t.Fatalf("events of a damaged pair: %v; want one that says %q", e, test.says)
				}
				if strings.Contains(e[0].String(), "BEGIN") {
					t.Errorf("an event reveals what is in the file: %v", e[0])
				}
				snap := w.m.Snapshot()
				if !slices.ContainsFunc(snap.Warnings, func(s string) bool { return strings.Contains(s, dir) }) {
					t.Errorf("warnings: %q", snap.Warnings)
				}
				if name == "a directory" {
					return
				}
				// A good pair ends all that.
				next := ca.sign(t, signed{names: []string{"a.example.com"}, life: 200 * 24 * time.Hour})
				putPair(t, dir, "a", next)
				time.Sleep(ownLooks)
				w.mustServe("a.example.com", next)
				if snap := w.m.Snapshot(); len(snap.Warnings) != 0 {
					t.Errorf("warnings: %q", snap.Warnings)
				}
				if n := len(w.ca.Issued()); n != 0 {
					t.Errorf("%d certificates were issued", n)
				}
			})
		})
	}
}

// A pair that is damaged from the first look on is a warning.
func TestDamagedPairAtTheStart(t *testing.T) {
	ownWorld(t, func(ca *officeCA, dir string) {
		replaceFile(t, filepath.Join(dir, "x.crt"), certPEM(ca.sign(t, signed{names: []string{"x.example.org"}})))
	}, func(t *testing.T, w *world, ca *officeCA, dir string) {
		w.mustGet("a.example.com")
		if e := w.events.of(audit.OwnCertificateRejected); len(e) != 1 || !strings.Contains(e[0].String(), "x.crt") {
			t.Errorf("events: %v", e)
		}
		if warnings := w.m.Snapshot().Warnings; len(warnings) != 1 || !strings.Contains(warnings[0], "x.crt") {
			t.Errorf("warnings: %q", warnings)
		}
		w.wantErr("x.example.org", certmgr.ErrHostNotAllowed)
	})
}

// A certificate for later enters service when it becomes valid.
func TestOwnCertificateForLater(t *testing.T) {
	t.Parallel()
	var now, later *tls.Certificate
	ownWorld(t, func(ca *officeCA, dir string) {
		now = ca.sign(t, signed{names: []string{"a.example.com"}})
		putPair(t, dir, "a", now)
	}, func(t *testing.T, w *world, ca *officeCA, dir string) {
		w.mustServe("a.example.com", now)
		later = ca.sign(t, signed{names: []string{"a.example.com"}, from: time.Now().Add(24 * time.Hour)})
		putPair(t, dir, "a", later)
		time.Sleep(23 * time.Hour)
		w.mustServe("a.example.com", now)
		time.Sleep(time.Hour + ownLooks)
		w.mustServe("a.example.com", later)
	})
}

// The folder of a mounted Kubernetes secret: links to a hidden folder, which a
// link leads to that is replaced in one step.
func TestOwnCertificateOfAKubernetesSecret(t *testing.T) {
	secret := func(t *testing.T, dir, version string, c *tls.Certificate) {
		mkdir(t, filepath.Join(dir, version))
		rewrite(t, filepath.Join(dir, version, "tls.crt"), certPEM(c))
		rewrite(t, filepath.Join(dir, version, "tls.key"), keyPEM(t, c))
		if err := os.Symlink(version, filepath.Join(dir, "..data_tmp")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	var first *tls.Certificate
	ownWorld(t, func(ca *officeCA, dir string) {
		first = ca.sign(t, signed{names: []string{"a.example.com"}})
		secret(t, dir, "..2026_1", first)
		for _, name := range []string{"tls.crt", "tls.key"} {
			if err := os.Symlink(filepath.Join("..data", name), filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
	}, func(t *testing.T, w *world, ca *officeCA, dir string) {
		w.mustServe("a.example.com", first)
		time.Sleep(time.Minute)
		second := ca.sign(t, signed{names: []string{"a.example.com"}})
		secret(t, dir, "..2026_2", second)
		time.Sleep(ownLooks)
		w.mustServe("a.example.com", second)
		if e := w.events.of(audit.OwnCertificateRejected); len(e) != 0 {
			t.Errorf("events: %v", e)
		}
	})
}

// Handshakes beside files that are replaced all the time get one certificate or
// the other, and nothing is ordered.
func TestOwnCertificatesBesideHandshakes(t *testing.T) {
	var own *tls.Certificate
	ownWorld(t, func(ca *officeCA, dir string) {
		own = ca.sign(t, signed{names: []string{"a.example.com"}})
		putPair(t, dir, "a", own)
	}, func(t *testing.T, w *world, ca *officeCA, dir string) {
		w.mustServe("a.example.com", own)
		valid := map[string]bool{string(own.Certificate[0]): true}
		served := make(map[string]bool)
		for range 20 {
			next := ca.sign(t, signed{names: []string{"a.example.com"}})
			valid[string(next.Certificate[0])] = true
			putPair(t, dir, "a", next)
			var wg sync.WaitGroup
			var mu sync.Mutex
			for range 8 {
				wg.Go(func() {
					for range 15 {
						cert, err := w.get("a.example.com")
						mu.Lock()
						if err != nil || !valid[string(cert.Certificate[0])] {
							t.Errorf("a handshake beside a replacement: %v", err)
						} else {
							served[string(cert.Certificate[0])] = true
							if !bytes.Equal(cert.Leaf.Raw, cert.Certificate[0]) {
								t.Error("leaf and chain differ")
							}
							cert.Certificate = append(cert.Certificate, []byte("another program's"))
						}
						mu.Unlock()
						time.Sleep(2 * time.Second)
					}
				})
			}
			wg.Wait()
		}
		if len(served) < 20 || len(w.ca.Issued()) != 0 {
			t.Errorf("%d certificates of 21 were served, %d issued", len(served), len(w.ca.Issued()))
		}
	})
}
