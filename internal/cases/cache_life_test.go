package cases

import (
	"errors"
	"io/fs"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
)

// B33: the file of the account key exists but has no key, after a crash or an
// interrupted first start (acmesh-official/acme.sh#5104, #275). The error says
// which entry it is and what to do, and the fix works without a restart.
func TestADamagedAccountKeyIsNamedAndMended(t *testing.T) {
	for name, data := range map[string]string{
		"empty": "", "zeros": strings.Repeat("\x00", 227), "newline": "\n", "page": "<html>",
	} {
		table.Run(t, "B33/"+name, func(t *T) {
			bubble(t, func(t *T, w *world) {
				const key = "acme_account+key"
				w.cache.Put(t.Context(), key, []byte(data))
				_, err := w.get(host)
				for range 2 { // the second is refused because of the first one's failure
					for _, word := range []string{key, "delete"} {
						if err == nil || !strings.Contains(err.Error(), word) {
							t.Errorf("the error does not say %q: %v", word, err)
						}
					}
					_, err = w.get(host)
				}
				if !errors.Is(err, certmgr.ErrNoAccount) {
					t.Errorf("[%s] %v, want ErrNoAccount", sentinels(err), err)
				}
				w.cache.Delete(t.Context(), key)
				if took, err := w.until(host, 10*time.Second, 20*time.Minute); err != nil {
					t.Errorf("%v after the entry was deleted: %v", took, err)
				}
			})
		})
	}
}

// B35: the disk is full when a certificate is stored. The certificate is stored
// once there is room, and not ordered again after a restart.
func TestACertificateOfAFullDiskIsStoredLater(t *testing.T) {
	table.Run(t, "B35/disk full", func(t *T) {
		bubble(t, func(t *T, w *world) {
			var full atomic.Bool
			full.Store(true)
			w.cache = &oddCache{put: func(string) error {
				if full.Load() {
					return &fs.PathError{Op: "write", Path: "/var/lib/certs/.put-1~", Err: syscall.ENOSPC}
				}
				return nil
			}}
			w.restart()
			if _, err := w.get(host); !errors.Is(err, certmgr.ErrCache) || !strings.Contains(err.Error(), syscall.ENOSPC.Error()) {
				t.Errorf("without room for an account key: [%s] %v", sentinels(err), err)
			}
			full.Store(false)
			if took, err := w.until(host, time.Minute, 5*time.Minute); err != nil {
				t.Fatalf("%v after there was room: %v", took, err)
			}
			full.Store(true)
			if err := w.m.Renew(t.Context(), host); err != nil {
				t.Fatal(err)
			}
			full.Store(false)
			time.Sleep(time.Hour)
			before := w.issued()
			w.restart()
			if _, err := w.get(host); err != nil || w.issued() != before {
				t.Errorf("after a restart %d certificates are issued anew, error %v", w.issued()-before, err)
			}
		})
	})
}

// B36: there is no network when the server starts (yusing/godoxy#265). Cached
// certificates are served, and the others are obtained soon after the network
// is up.
func TestAStartWithoutANetworkIsMadeUpFor(t *testing.T) {
	table.Run(t, "B36", func(t *T) {
		bubble(t, func(t *T, w *world) {
			const other = "b.example.com"
			mustObtain(t, w, host)
			w.restart(host, other)
			fault := w.ca.Drop(acmetest.Match{})
			if err := w.m.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
			if _, err := w.get(host); err != nil {
				t.Errorf("a certificate that is in the cache is not served: %v", err)
			}
			if _, err := w.get(other); !errors.Is(err, certmgr.ErrCAUnavailable) {
				t.Errorf("[%s] %v, want ErrCAUnavailable", sentinels(err), err)
			}
			time.Sleep(2 * time.Minute)
			fault.Lift()
			if took, err := w.until(other, 5*time.Second, 5*time.Minute); err != nil {
				t.Errorf("%v after the network came: %v", took, err)
			}
		})
	})
}

// B37: a container without a volume is restarted again and again, and uses up
// the CA's rate limits (yusing/godoxy#124, traefik/traefik#9627). An event says
// that there is no Cache.
func TestNoCacheIsTold(t *testing.T) {
	table.Run(t, "B37", func(t *T) {
		bubble(t, func(t *T, w *world) {
			w.m.Cache = nil
			if err := w.m.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
			synctest.Wait()
			for _, e := range w.events.all() {
				if strings.Contains(e.String(), "Cache") {
					return
				}
			}
			t.Errorf("no event says so, and with each restart one more certificate is issued: %v", w.events.all())
		})
	})
}

// B38: the CA's staging server is tried first, and then the real one with the
// same cache (gmpassos/shelf_letsencrypt#11, bunkerity/bunkerweb#1411). The
// real one's certificate is served, or an event says which CA issued the other
// one.
func TestACertificateOfAnotherCAIsNotServedSilently(t *testing.T) {
	table.Run(t, "B38", func(t *T) {
		bubble(t, func(t *T, w *world) {
			mustObtain(t, w, host)
			staging := w.ca
			defer staging.Close()
			w.ca = acmetest.NewMemoryServer()
			w.restart()
			cert, err := w.get(host)
			if err != nil {
				t.Fatal(err)
			}
			if verify(t, cert, w.ca.Roots()) == nil {
				return
			}
			synctest.Wait()
			for _, e := range w.events.all() {
				if strings.Contains(e.String(), cert.Leaf.Issuer.CommonName) {
					return
				}
			}
			t.Errorf("the certificate that %q issued is served until its end, and no event says so", cert.Leaf.Issuer.CommonName)
		})
	})
}
