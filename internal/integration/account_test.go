package integration

import (
	"crypto"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/cache"
	"github.com/nostall/nostall/internal/bundle"
)

// External account binding keys, which a user gets from a CA that requires
// them.
var (
	boundKey = []byte("integration test key 0123456789abcdef")
	wrongKey = []byte("something else than the key of the CA")
)

func TestExternalAccountBinding(t *testing.T) {
	l := listen(t)
	p := startPebble(t, pebbleConfig{
		tlsPort: port(l),
		eab:     map[string]string{"kid-1": base64.RawURLEncoding.EncodeToString(boundKey)},
	})
	const host = "www.example.org"

	t.Run("right key", func(t *testing.T) {
		m := newManager(t, p, new(cache.Memory), host)
		m.ExternalAccountBinding = &acme.ExternalAccountBinding{KID: "kid-1", Key: boundKey}
		mustVisit(t, serveTLS(t, l, m.TLSConfig()), host, p.roots, nil)
		m.close(t)
		wantNoKey(t, m, nil)
	})

	for _, c := range []struct {
		name    string
		binding *acme.ExternalAccountBinding
		problem string // "" if the CA is not asked
		tells   string
	}{
		{"no key", nil, "", "Manager.ExternalAccountBinding is not set"},
		{"wrong key", &acme.ExternalAccountBinding{KID: "kid-1", Key: wrongKey}, "unauthorized", `Manager.ExternalAccountBinding with the KID "kid-1"`},
		{"unknown key identifier", &acme.ExternalAccountBinding{KID: "kid-2", Key: boundKey}, "unauthorized", `Manager.ExternalAccountBinding with the KID "kid-2"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newManager(t, p, new(cache.Memory), host)
			m.ExternalAccountBinding = c.binding
			err := m.Obtain(t.Context(), host)
			if c.problem != "" {
				wantIssuanceError(t, err, host, audit.StageAccount, c.problem)
			}
			if !errors.Is(err, certmgr.ErrNoAccount) || !strings.Contains(fmt.Sprint(err), c.tells) {
				t.Errorf("error is no ErrNoAccount or does not mention %q: %v", c.tells, err)
			}
			m.close(t)
			wantNoKey(t, m, err)
			if n := m.traffic.sent(newOrder); n != 0 {
				t.Errorf("%d orders without an account", n)
			}
		})
	}
}

// Pebble refuses an account that was deactivated: that stops all hosts, until
// its key is no longer in the cache.
func TestDeactivatedAccount(t *testing.T) {
	l := listen(t)
	p := startPebble(t, pebbleConfig{tlsPort: port(l)})
	store := new(cache.Memory)
	m := newManager(t, p, store, "a.example.org", "b.example.org")
	serveTLS(t, l, m.TLSConfig())
	m.obtain(t, "a.example.org")

	client := m.traffic.client(p)
	client.Key = accountKey(t, store)
	if err := client.DeactivateReg(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"a.example.org", "b.example.org"} {
		err := m.Renew(t.Context(), host)
		if !errors.Is(err, certmgr.ErrNoAccount) || !strings.Contains(fmt.Sprint(err), `delete the entry "acme_account+key"`) {
			t.Errorf("%s: %v, want an ErrNoAccount that names the entry", host, err)
		}
	}
	if err := store.Delete(t.Context(), "acme_account+key"); err != nil {
		t.Fatal(err)
	}
	m.obtain(t, "b.example.org")
}

// accountKey returns the account's key in a cache.
func accountKey(t *testing.T, store cache.Cache) crypto.Signer {
	t.Helper()
	data, err := store.Get(t.Context(), "acme_account+key")
	if err != nil {
		t.Fatal(err)
	}
	key, _, err := bundle.DecodeKey(data)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// Pebble refuses contacts.
func TestRefusedContact(t *testing.T) {
	p := startPebble(t, pebbleConfig{})
	m := newManager(t, p, new(cache.Memory), "a.example.org")
	m.Email = "größe@example.org"
	if err := m.Obtain(t.Context(), "a.example.org"); !errors.Is(err, certmgr.ErrNoAccount) || !strings.Contains(fmt.Sprint(err), "Manager.Email") {
		t.Errorf("%v, want an ErrNoAccount that names Manager.Email", err)
	}
}

// wantNoKey fails the test if an EAB key is in an event or in err.
func wantNoKey(t *testing.T, m *manager, err error) {
	t.Helper()
	texts := []string{fmt.Sprintf("%v %+v", err, err)}
	for _, e := range m.events.all() {
		texts = append(texts, e.String(), fmt.Sprintf("%+v", e), fmt.Sprintf("%#v", e), fmt.Sprint(e.LogValue()))
		for cause := e.Err; cause != nil; cause = errors.Unwrap(cause) {
			texts = append(texts, fmt.Sprintf("%#v", cause))
		}
	}
	if len(texts) == 1 {
		t.Error("no events")
	}
	all := strings.Join(texts, "\n")
	for _, key := range [][]byte{boundKey, wrongKey} {
		for _, form := range []string{
			string(key), hex.EncodeToString(key), base64.RawURLEncoding.EncodeToString(key),
			base64.RawStdEncoding.EncodeToString(key), fmt.Sprint(key), fmt.Sprintf("%#v", key),
		} {
			if strings.Contains(all, form) {
				t.Errorf("an EAB key is in the events or in the error, as %q", form)
			}
		}
	}
}

// wantIssuanceError fails the test unless err reports the host's failure at a
// stage, caused by a problem of the CA.
func wantIssuanceError(t *testing.T, err error, host string, stage audit.Stage, problem string) {
	t.Helper()
	failed, ok := errors.AsType[*certmgr.IssuanceError](err)
	if !ok {
		t.Fatalf("error is %T, want an *IssuanceError: %v", err, err)
	}
	if failed.Host != host || failed.Stage != stage || failed.Attempts != 1 || !failed.RetryAt.After(failed.Time) {
		t.Errorf("host %q, stage %q, attempts %d, time %v, next attempt %v",
			failed.Host, failed.Stage, failed.Attempts, failed.Time, failed.RetryAt)
	}
	reason, ok := errors.AsType[*acme.Error](err)
	if !ok {
		t.Fatalf("no *acme.Error in: %v", err)
	}
	if want := "urn:ietf:params:acme:error:" + problem; reason.ProblemType != want {
		t.Errorf("the CA's problem is %q, want %q", reason.ProblemType, want)
	}
	if !strings.Contains(err.Error(), reason.Detail) {
		t.Errorf("the CA's words %q are missing in: %v", reason.Detail, err)
	}
}
