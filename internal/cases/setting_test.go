package cases

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
)

// forbidContact makes the CA refuse the account's contact address.
func forbidContact(w *world) (lift func()) {
	return w.ca.Status(acmetest.Match{Endpoint: acmetest.NewAccount}, http.StatusBadRequest, nil, acmetest.Problem{
		Type: "invalidContact", Detail: `contact email has forbidden domain "example.com"`}).Lift
}

// B18: the CA refuses the contact address (internetstandards/Internet.nl#1885,
// letsencrypt/boulder#3748). The CA works; the error names the setting.
func TestARefusedContactIsTheSettingsFault(t *testing.T) {
	table.Run(t, "B18", func(t *T) {
		bubble(t, func(t *T, w *world) {
			w.m.Email = "ops@example.com"
			forbidContact(w)
			for range 2 {
				_, err := w.get(host)
				blames(t, err, "Email")
			}
		})
	})
}

// B29: settings from files and secrets end with a newline, are quoted, or have
// an extra or missing scheme (acmesh-official/acme.sh#3971). They are
// corrected, or the error names the field.
func TestASettingWithANewlineIsMendedOrNamed(t *testing.T) {
	key := []byte("0123456789abcdef0123456789abcdef")
	table.Run(t, "B29", func(t *T) {
		for _, tt := range []struct {
			name  string
			set   func(m *certmgr.Manager)
			field string
		}{
			{"directory URL, newline", func(m *certmgr.Manager) { m.Client.DirectoryURL += "\n" }, "DirectoryURL"},
			{"directory URL, space", func(m *certmgr.Manager) { m.Client.DirectoryURL = " " + m.Client.DirectoryURL }, "DirectoryURL"},
			{"directory URL, quotes", func(m *certmgr.Manager) { m.Client.DirectoryURL = `"` + m.Client.DirectoryURL + `"` }, "DirectoryURL"},
			{"directory URL, no scheme", func(m *certmgr.Manager) {
				m.Client.DirectoryURL = strings.TrimPrefix(m.Client.DirectoryURL, "https://")
			}, "DirectoryURL"},
			{"user agent, newline", func(m *certmgr.Manager) { m.Client.UserAgent = "my-server/1.0\n" }, "UserAgent"},
			{"email, scheme", func(m *certmgr.Manager) { m.Email = "mailto:ops@example.org" }, "Email"},
			{"email, newline", func(m *certmgr.Manager) { m.Email = "ops@example.org\n" }, "Email"},
			{"EAB key identifier, newline", func(m *certmgr.Manager) {
				m.ExternalAccountBinding = &acme.ExternalAccountBinding{KID: "kid-1\n", Key: key}
			}, "ExternalAccountBinding"},
		} {
			t.Run(tt.name, func(t *T) {
				binding := func(ca *acmetest.Server) {
					if tt.field == "ExternalAccountBinding" {
						ca.EAB = map[string][]byte{"kid-1": key}
					}
				}
				bubbleCA(t, binding, func(t *T, w *world) {
					tt.set(w.m)
					if _, err := w.get(host); err == nil {
						return
					}
					time.Sleep(time.Second)
					_, err := w.get(host)
					blames(t, err, tt.field)
				})
			})
		}
	})
}

// blames checks that an error names a field of the Manager, and does not call
// the CA unavailable.
func blames(t *T, err error, field string) {
	t.Helper()
	if errors.Is(err, certmgr.ErrCAUnavailable) {
		t.Errorf("the error is ErrCAUnavailable: %v", err)
	}
	if err == nil || !strings.Contains(err.Error(), field) {
		t.Errorf("the error does not name %s: %v", field, err)
	}
}

// B40: a consequence of B18. A wrong setting is fixed and the server restarted:
// the recorded failures of the CA do not delay the new process.
func TestAMendedSettingIsTriedAtOnceAfterARestart(t *testing.T) {
	table.Run(t, "B40", func(t *T) {
		bubble(t, func(t *T, w *world) {
			w.m.Email = "ops@example.com"
			lift := forbidContact(w)
			w.until(host, time.Minute, time.Hour)
			before := w.ca.Count(acmetest.NewAccount)
			for range 3600 { // until it has just failed again
				if w.ca.Count(acmetest.NewAccount) > before {
					break
				}
				time.Sleep(time.Second)
				w.get(host)
			}
			lift()
			w.m.Close()
			w.m = w.manager(host)
			w.m.Email = "ops@example.org"
			if took, err := w.until(host, 5*time.Second, time.Hour); err != nil || took > 15*time.Second {
				t.Errorf("no certificate for %v after the restart: %v", took, err)
			}
		})
	})
}
