package account

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
)

func TestValuesThatNoCAAcceptsAreNamed(t *testing.T) {
	key := make([]byte, 32)
	good := settings{
		directory: "https://acme.example/directory?ca=1",
		userAgent: "server/1.0 (\tops)",
		key:       newKey(t),
		email:     "o'brien+acme@mail.example.org",
		binding:   &acme.ExternalAccountBinding{KID: "kid-1", Key: key},
	}
	if err := errors.Join(good.check(), good.checkNew(), settings{directory: "http://[::1]:14000/dir"}.check(),
		settings{directory: "http://ca.internal/dir", plainHTTP: true}.check(), settings{}.checkNew()); err != nil {
		t.Errorf("good settings: %v", err)
	}
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	directory := func(v string) func(*settings) { return func(s *settings) { s.directory = v } }
	email := func(v string) func(*settings) { return func(s *settings) { s.email = v } }
	binding := func(kid string, key []byte) func(*settings) {
		return func(s *settings) { s.binding = &acme.ExternalAccountBinding{KID: kid, Key: key} }
	}
	for _, tt := range []struct {
		set  func(*settings)
		want string // the beginning of the error
	}{
		{directory("https://acme.example/dir\n"), `Manager.Client.DirectoryURL "https://acme.example/dir\n" ends with a newline`},
		{directory(" https://acme.example/dir"), `Manager.Client.DirectoryURL " https://acme.example/dir" begins or ends with white space`},
		{directory(`"https://acme.example/dir"`), `Manager.Client.DirectoryURL "\"https://acme.example/dir\"" is in quotes`},
		{directory("“https://acme.example/dir”"), `Manager.Client.DirectoryURL "“https://acme.example/dir”" is in quotes`},
		{directory("<https://acme.example/dir>"), `Manager.Client.DirectoryURL "<https://acme.example/dir>" is in angle brackets`},
		{directory("https://acme.example/a dir"), `Manager.Client.DirectoryURL "https://acme.example/a dir" contains white space`},
		{directory("\ufeffhttps://acme.example/dir"), `Manager.Client.DirectoryURL "\ufeffhttps://acme.example/dir" contains a character that cannot be printed`},
		{directory("acme.example/dir"), `Manager.Client.DirectoryURL "acme.example/dir" has no scheme`},
		{directory("acme.example:14000/dir"), `Manager.Client.DirectoryURL "acme.example:14000/dir" has no scheme`},
		{directory("ftp://acme.example/dir"), `Manager.Client.DirectoryURL "ftp://acme.example/dir" has the scheme "ftp"`},
		{directory("http://ca.internal/dir"), `Manager.Client.DirectoryURL "http://ca.internal/dir" is plain http to another machine`},
		{directory("HTTP://192.0.2.1/dir"), `Manager.Client.DirectoryURL "HTTP://192.0.2.1/dir" is plain http to another machine`},
		{directory("https:///dir"), `Manager.Client.DirectoryURL "https:///dir" names no host`},
		{directory("https://:443/dir"), `Manager.Client.DirectoryURL "https://:443/dir" names no host`},
		{directory("https://acme.example:443443/dir"), `Manager.Client.DirectoryURL "https://acme.example:443443/dir" has the port 443443`},
		{directory("https://acme.example/%zz"), `Manager.Client.DirectoryURL "https://acme.example/%zz" is not a URL: invalid URL escape`},
		{directory("https://user:secret@acme.example/dir?token=secret\n"), `Manager.Client.DirectoryURL "https://...@acme.example/dir..." ends with a newline`},
		{directory("https://" + strings.Repeat("a", 5000) + " "), `Manager.Client.DirectoryURL "https://aaaa`},
		{func(s *settings) { s.userAgent = "server\r\nX: y" }, `Manager.Client.UserAgent "server\r\nX: y" contains a control character`},
		{func(s *settings) { s.key = p224 }, "Manager.Client.Key is ECDSA on P-224, with which no account can be had"},
		{func(s *settings) { s.key = edwards }, "Manager.Client.Key is ed25519.PublicKey, with which"},
		{func(s *settings) { s.key = (*ecdsa.PrivateKey)(nil) }, "Manager.Client.Key is a nil *ecdsa.PrivateKey"},
		{email("ops@example.org\n"), `Manager.Email "ops@example.org\n" ends with a newline`},
		{email("mailto:ops@example.org"), `Manager.Email "mailto:ops@example.org" begins with "mailto:"`},
		{email("MailTo:ops@example.org"), `Manager.Email "MailTo:ops@example.org" begins with "mailto:"`},
		{email("'ops@example.org'"), `Manager.Email "'ops@example.org'" is in quotes`},
		{email("ops"), `Manager.Email "ops" is not an email address`},
		{email("${EMAIL}"), `Manager.Email "${EMAIL}" is not an email address`},
		{email("a@example.org,b@example.org"), `Manager.Email "a@example.org,b@example.org" is more than one address`},
		{email("Ops <ops@example.org>"), `Manager.Email "Ops <ops@example.org>" contains white space`},
		{email("<ops@example.org>"), `Manager.Email "<ops@example.org>" is in angle brackets`},
		{email("ops@example.org?subject=x"), `Manager.Email "ops@example.org?subject=x" contains ? or #`},
		{email("@example.org"), `Manager.Email "@example.org" is not an email address`},
		{email("ops@"), `Manager.Email "ops@" is not an email address`},
		{binding("", key), "Manager.ExternalAccountBinding has an empty KID"},
		{binding("kid-1\n", key), `Manager.ExternalAccountBinding: the KID "kid-1\n" ends with a newline`},
		{binding("kid-1", nil), `Manager.ExternalAccountBinding has an empty Key (KID "kid-1")`},
	} {
		set := good
		tt.set(&set)
		err := set.check()
		if err == nil {
			err = set.checkNew()
		}
		if err == nil || !strings.HasPrefix(err.Error(), tt.want) || strings.Contains(err.Error(), "secret") || len(err.Error()) > 300 {
			t.Errorf("%v, want %s", err, tt.want)
		}
	}
}

// The CA refuses a value that only it can judge.
func TestWhatTheCARefusesIsNamed(t *testing.T) {
	weak, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	email := func(set *setup) { set.email = "ops@example.org" }
	bound := func(set *setup) {
		set.binding = &acme.ExternalAccountBinding{KID: "kid-1", Key: []byte("c2VjcmV0IHNlY3JldCBzZWNyZXQ")}
	}
	const ownEntry = `delete the entry "acme_account+key" from the Cache`
	for _, tt := range []struct {
		typ, detail string
		set         func(set *setup)
		want        string // the beginning of the error
	}{
		{"invalidContact", "contact email has forbidden domain", email, `Manager.Email "ops@example.org" is not accepted: registering an account: CA `},
		{"unsupportedContact", "", email, `Manager.Email "ops@example.org" is not accepted`},
		{"INVALIDCONTACT", "", email, `Manager.Email "ops@example.org" is not accepted`},
		{"malformed", "Invalid e-mail address", email, `Manager.Email "ops@example.org" is not accepted`},
		{"malformed", "a contact is required", nil, "Manager.Email is empty, and the CA requires a contact"},
		{"badPublicKey", "key too small", func(set *setup) { set.key = weak }, "Manager.Client.Key (RSA with 2048 bits) is not accepted"},
		{"badPublicKey", "compromised key", nil, "the account key (ECDSA on P-256) is not accepted: " + ownEntry},
		{"badSignatureAlgorithm", "", func(set *setup) { set.key = weak }, "Manager.Client.Key (RSA with 2048 bits) is not accepted"},
		{"malformed", "unsupported key type", func(set *setup) { set.key = weak }, "Manager.Client.Key (RSA with 2048 bits) is not accepted"},
		{"externalAccountRequired", "", nil, "Manager.ExternalAccountBinding is not set, and the CA requires it"},
		{"externalAccountRequired", "no such key", bound, `Manager.ExternalAccountBinding with the KID "kid-1" is not accepted; its Key looks like base64`},
		{"unauthorized", "", bound, `Manager.ExternalAccountBinding with the KID "kid-1" is not accepted`},
		{"malformed", "The EAB HMAC is wrong", bound, `Manager.ExternalAccountBinding with the KID "kid-1" is not accepted`},
		{"userActionRequired", "", nil, "the CA waits for an action of yours"},
		{"malformed", "must agree to the terms of service", nil, "Manager.Prompt has nothing to accept"},
		{"unauthorized", "An account with the provided public key exists but is deactivated", nil, "the account is refused: if that is final, " + ownEntry + " to register a new one"},
		{"unauthorized", "", nil, "the account is refused"},
		{"unauthorized", "account suspended", func(set *setup) { set.key = weak }, "the account is refused: if that is final, set another Manager.Client.Key"},
		{"unauthorized", "account suspended", func(set *setup) { set.store = nil }, "the account is refused: if that is final, restart to register a new one"},
	} {
		atSite(t, func(t *testing.T, s *site) {
			set := s.setup()
			if tt.set != nil {
				tt.set(&set)
			}
			fault := s.ca.Status(acmetest.Match{Endpoint: acmetest.NewAccount}, http.StatusBadRequest, nil, acmetest.Problem{Type: tt.typ, Detail: tt.detail})
			s.restart(set)
			_, err := s.m.Get(t.Context())
			if err == nil || !IsUnavailable(err) || !errors.Is(err, ErrNoAccount) || !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("%s %q: %v, want %s", tt.typ, tt.detail, err, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), "c2VjcmV0") {
				t.Errorf("the error has the MAC key: %v", err)
			}
			fault.Lift()
			s.mustUse()
		})
	}
}

// A registration may be impossible without need: an account that exists is used
// all the same.
func TestAnAccountThatExistsNeedsNoRegistration(t *testing.T) {
	for name, spoil := range map[string]func(set *setup){
		"email":   func(set *setup) { set.email = "ops" },
		"terms":   func(set *setup) { set.prompt = func(string) bool { return false } },
		"binding": func(set *setup) { set.binding = new(acme.ExternalAccountBinding) },
	} {
		for _, own := range []bool{false, true} {
			atSite(t, func(t *testing.T, s *site) {
				s.ca.ChangeTerms("https://ca.example/terms")
				set := s.setup()
				if own {
					set.key = newKey(t)
				}
				s.restart(set)
				s.mustUse()
				spoil(&set)
				s.restart(set)
				if err := s.m.use(t.Context()); err != nil {
					t.Errorf("%s, key of the user's %v: %v", name, own, err)
				}
				s.account()
				s.store.Delete(t.Context(), currentEntry)
				set.key = nil
				s.restart(set)
				before := len(s.ca.Accounts())
				if _, err := s.m.Get(t.Context()); !IsUnavailable(err) || len(s.ca.Accounts()) != before {
					t.Errorf("%s: %v, want no new account", name, err)
				}
			})
		}
	}
}

// A directory that never was one is the setting's fault, one that has gone is
// the CA's.
func TestDirectoryThatIsNotThereIsTheSettingsFault(t *testing.T) {
	gone := func(s *site) {
		s.ca.Respond(acmetest.Match{Endpoint: acmetest.Directory}, http.StatusNotFound, nil, "no such page")
	}
	atSite(t, func(t *testing.T, s *site) {
		gone(s)
		if _, err := s.m.Get(t.Context()); !IsUnavailable(err) || !strings.Contains(err.Error(), "Manager.Client.DirectoryURL") {
			t.Errorf("from the start: %v", err)
		}
	})
	atSite(t, func(t *testing.T, s *site) {
		s.mustUse()
		acc, err := s.m.Get(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		gone(s)
		s.m.Forget(acc)
		s.m.ca.Forget()
		if _, err := s.m.Get(t.Context()); err == nil || IsUnavailable(err) {
			t.Errorf("later: %v", err)
		}
	})
}

// failingSigner is a key in a service that is down.
type failingSigner struct {
	crypto.Signer
	err error
}

func (s *failingSigner) Sign(r io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if s.err != nil {
		return nil, s.err
	}
	return s.Signer.Sign(r, digest, opts)
}

// A key that cannot sign is not the CA's fault.
func TestKeyThatCannotSignIsNamed(t *testing.T) {
	for _, down := range []error{errDisk, errors.New(strings.Repeat("x", 5000))} {
		atSite(t, func(t *testing.T, s *site) {
			set := s.setup()
			key := &failingSigner{Signer: newKey(t)}
			set.key = key
			s.restart(set)
			s.mustUse()
			key.err = down
			err := s.m.use(t.Context())
			if !IsUnavailable(err) || !strings.Contains(err.Error(), "Manager.Client.Key cannot sign") || len(err.Error()) > 500 {
				t.Errorf("%v", err)
			}
		})
	}
}

// A contact that the CA does not accept for an account that exists is named, too.
func TestRefusedChangeOfTheContactNamesTheField(t *testing.T) {
	for _, tt := range []struct{ email, want string }{
		{"ops@example.org", `Manager.Email "ops@example.org" is not accepted: changing the account's contact: CA `},
		{"ops@example.org ", `Manager.Email "ops@example.org " begins or ends with white space`},
	} {
		atSite(t, func(t *testing.T, s *site) {
			s.mustUse()
			s.ca.Status(acmetest.Match{Endpoint: acmetest.UpdateAccount}, http.StatusBadRequest, nil,
				acmetest.Problem{Type: "invalidContact", Detail: "forbidden domain"})
			set := s.setup()
			set.email = tt.email
			s.restart(set)
			s.mustUse()
			failed := s.events.of(audit.AccountContactFailed)
			if len(failed) != 1 || !strings.HasPrefix(failed[0].Err.Error(), tt.want) {
				t.Errorf("%v, want one event whose error is %s", failed, tt.want)
			}
		})
	}
}
