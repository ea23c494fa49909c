package acmetest_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/internal/conformance"
)

// TestKnownAccountIsNotChanged: RFC 8555, section 7.3.1.
func TestKnownAccountIsNotChanged(t *testing.T) {
	s := acmetest.NewMemoryServer()
	defer s.Close()
	c := newRawClient(t, s)
	first := c.do(post{url: c.endpoint("/new-account"), payload: `{"contact":["mailto:a@example.com"],"orders":"x","more":[1]}`})
	if first.status != 201 {
		t.Fatalf("newAccount: %d %s", first.status, first.body)
	}
	again := c.do(post{url: c.endpoint("/new-account"),
		payload: `{"contact":["tel:1"],"termsOfServiceAgreed":true,"status":"deactivated"}`})
	if again.status != 200 || again.header.Get("Location") != first.header.Get("Location") ||
		!reflect.DeepEqual(again.object, first.object) {
		t.Errorf("the second time: %d %s, want %s", again.status, again.body, first.body)
	}
	want := map[string]any{"status": "valid", "contact": []any{"mailto:a@example.com"}, "orders": c.endpoint("/orders/1")}
	if !reflect.DeepEqual(first.object, want) {
		t.Errorf("the account is %v, want %v", first.object, want)
	}
}

// TestAccountUpdate: RFC 8555, section 7.3.2.
func TestAccountUpdate(t *testing.T) {
	s := acmetest.NewMemoryServer()
	defer s.Close()
	c := newRawClient(t, s)
	a := c.do(post{url: c.endpoint("/new-account"), payload: `{"contact":["mailto:a@example.com"]}`})
	c.kid = a.header.Get("Location")
	for _, test := range []struct {
		name, payload, want string
	}{
		{"POST-as-GET", "", "[mailto:a@example.com]"},
		{"nothing", "{}", "[mailto:a@example.com]"},
		{"contact null", `{"contact":null}`, "[mailto:a@example.com]"},
		{"other contacts", `{"contact":["mailto:b@example.com","MAILTO:c@example.com"]}`, "[mailto:b@example.com MAILTO:c@example.com]"},
		{"what is not a client's", `{"termsOfServiceAgreed":true,"orders":"x","externalAccountBinding":{},"extra":1}`,
			"[mailto:b@example.com MAILTO:c@example.com]"},
		{"the account as it is", `{"status":"valid","contact":["mailto:b@example.com"]}`, "[mailto:b@example.com]"},
		{"a name in another case", `{"Contact":[]}`, "[mailto:b@example.com]"},
		{"no contacts", `{"contact":[]}`, "[]"},
	} {
		a := c.do(post{url: c.kid, payload: test.payload})
		if got := fmt.Sprint(s.Accounts()[0].Contact); a.status != 200 || got != test.want {
			t.Errorf("%s: %d %s, contacts %s, want %s", test.name, a.status, a.body, got, test.want)
		}
		for _, member := range []string{"termsOfServiceAgreed", "externalAccountBinding", "extra"} {
			if a.object[member] != nil {
				t.Errorf("%s: the account shows %s: %s", test.name, member, a.body)
			}
		}
	}
}

func TestContactsAreChecked(t *testing.T) {
	s := acmetest.NewMemoryServer()
	defer s.Close()
	c := newRawClient(t, s)
	c.register()
	many := `"mailto:a@example.com"` + strings.Repeat(`,"mailto:a@example.com"`, 10)
	for _, test := range []struct{ contacts, typ string }{
		{`"tel:+4912345"`, "unsupportedContact"},
		{`"https://example.com"`, "unsupportedContact"},
		{`"a@example.com"`, "unsupportedContact"},
		{`"mailto:"`, "invalidContact"},
		{`"mailto:a"`, "invalidContact"},
		{`"mailto:a@example.com,b@example.com"`, "invalidContact"},
		{`"mailto:a@example.com?subject=x"`, "invalidContact"},
		{`"mailto:a@example.com#x"`, "invalidContact"},
		{`"mailto:a?cc=b@example.com"`, "invalidContact"},
		{`"mailto:a#b@example.com"`, "invalidContact"},
		{`"mailto:A <a@example.com>"`, "invalidContact"},
		{`"mailto: a@example.com"`, "invalidContact"},
		{`"mailto:ä@example.com"`, "invalidContact"},
		{`"mailto:a@localhost"`, "invalidContact"},
		{`"mailto:a@192.0.2.1"`, "invalidContact"},
		{many, "malformed"},
		{`1`, "malformed"},
	} {
		for _, url := range []string{c.kid, c.endpoint("/new-account")} {
			client := c
			if url != c.kid {
				client = newRawClient(t, s)
			}
			a := client.do(post{url: url, payload: `{"contact":[` + test.contacts + `]}`})
			if a.status != 400 || a.problem() != test.typ {
				t.Errorf("%s: contact %s: %d %s, want %s", url, test.contacts, a.status, a.body, test.typ)
			}
		}
	}
	if list := s.Accounts(); len(list) != 1 || len(list[0].Contact) > 0 {
		t.Errorf("accounts %+v", list)
	}
}

// TestMembersAreNamedExactly: encoding/json alone would ignore case.
func TestMembersAreNamedExactly(t *testing.T) {
	s := acmetest.NewMemoryServer()
	defer s.Close()
	c := newRawClient(t, s)
	c.register()
	a := c.do(post{url: c.endpoint("/new-order"), payload: `{"Identifiers":[{"type":"dns","value":"a.example.com"}]}`})
	if a.status != 400 || a.problem() != "malformed" || !strings.Contains(a.str("detail"), "no identifiers") {
		t.Errorf(`"Identifiers": %d %s`, a.status, a.body)
	}
	a = c.do(post{url: c.endpoint("/new-order"), payload: `{"identifiers":[],"identifiers":[{"type":"dns","value":"a.example.com"}]}`})
	if a.status != 400 || a.problem() != "malformed" {
		t.Errorf(`"identifiers" twice: %d %s`, a.status, a.body)
	}
}

// TestAccountDeactivation: RFC 8555, section 7.3.6.
func TestAccountDeactivation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := acmetest.NewMemoryServer()
		defer s.Close()
		c, other := newRawClient(t, s), newRawClient(t, s)
		c.register()
		other.register()
		c.newLeaf("done.example.com")
		c.order("pending.example.com")
		c.ready("ready.example.com")
		fault := s.StuckProcessing("processing.example.com")
		_, o := c.ready("processing.example.com")
		c.finalize(o, csr(t, newECKey(t), x509.CertificateRequest{}, "processing.example.com"))
		otherOrder, _ := other.order("pending.example.com")

		if a := c.do(post{url: c.kid, payload: `{"status":"deactivated"}`}); a.status != 200 || a.str("status") != "deactivated" {
			t.Fatalf("deactivation: %d %s", a.status, a.body)
		}
		fault.Lift()
		time.Sleep(time.Second)
		synctest.Wait()
		for host, want := range map[string]string{"done.example.com": "valid", "pending.example.com": "invalid",
			"ready.example.com": "invalid", "processing.example.com": "invalid"} {
			for _, o := range s.Orders() {
				if o.Account == c.kid && o.Hosts[0] == host && o.Status != want {
					t.Errorf("the order for %s is %s, want %s", host, o.Status, want)
				}
			}
		}
		if got := fmt.Sprint(s.Authorizations("pending.example.com")); got != "[deactivated pending]" {
			t.Errorf("authorizations %s, want that of the other account pending alone", got)
		}
		if n := len(s.Issued()); n != 1 || len(s.Revoked()) != 0 {
			t.Errorf("%d certificates, %d revoked, want the one of before", n, len(s.Revoked()))
		}
		if got := other.get(otherOrder).str("status"); got != "pending" {
			t.Errorf("the order of the other account is %s", got)
		}
		for _, url := range []string{c.kid, c.endpoint("/new-order"), c.endpoint("/key-change"), c.endpoint("/orders/1")} {
			if a := c.do(post{url: url}); a.status != 401 || a.problem() != "unauthorized" {
				t.Errorf("%s after the deactivation: %d %s", url, a.status, a.body)
			}
		}
	})
}

// TestBindingIsShown: RFC 8555, section 7.3.4, but not if it was not checked.
func TestBindingIsShown(t *testing.T) {
	for _, required := range []bool{true, false} {
		s := acmetest.NewUnstartedServer()
		secret := []byte("0123456789abcdef")
		if required {
			s.EAB = map[string][]byte{"kid-1": secret}
		}
		s.StartMemory()
		defer s.Close()
		c := newRawClient(t, s)
		protected := conformance.B64(conformance.MustJSON(t, map[string]any{
			"alg": "HS256", "kid": "kid-1", "url": c.endpoint("/new-account"),
		}))
		payload := conformance.B64(conformance.MustJSON(t, conformance.JWK(t, c.key.Public())))
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte(protected + "." + payload))
		binding := map[string]any{"protected": protected, "payload": payload, "signature": conformance.B64(mac.Sum(nil))}
		account := conformance.MustJSON(t, map[string]any{"externalAccountBinding": binding})
		a := c.do(post{url: c.endpoint("/new-account"), payload: string(account)})
		if a.status != 201 || reflect.DeepEqual(a.object["externalAccountBinding"], any(binding)) != required {
			t.Errorf("required %v: %d %s", required, a.status, a.body)
		}
	}
}

// TestChangedTerms: RFC 8555, section 7.3.3.
func TestChangedTerms(t *testing.T) {
	s := acmetest.NewMemoryServer()
	defer s.Close()
	const terms = "https://ca.example/terms/2"
	c := newRawClient(t, s)
	c.register()
	c.order("a.example.com")
	s.ChangeTerms(terms)

	a := c.do(post{url: c.endpoint("/new-order"), payload: `{"identifiers":[{"type":"dns","value":"b.example.com"}]}`})
	if a.status != 403 || a.problem() != "userActionRequired" || a.link("terms-of-service") != terms || a.str("instance") == "" {
		t.Errorf("newOrder: %d %v %s", a.status, a.header, a.body)
	}
	if a := c.do(post{url: c.kid, payload: `{"termsOfServiceAgreed":true}`}); a.status != 200 {
		t.Errorf("account: %d %s", a.status, a.body)
	}
	if a := c.do(post{url: c.endpoint("/new-order"), payload: `{"identifiers":[{"type":"dns","value":"b.example.com"}]}`}); a.status != 403 {
		t.Errorf("newOrder after an update that section 7.3.2 wants to be ignored: %d %s", a.status, a.body)
	}
	// New accounts agree to them.
	client := &acme.Client{Key: newECKey(t), DirectoryURL: s.URL, HTTPClient: s.Client()}
	var asked string
	if _, err := client.Register(t.Context(), &acme.Account{}, func(url string) bool { asked = url; return true }); err != nil || asked != terms {
		t.Errorf("asked for %q, error %v", asked, err)
	}
	if _, err := client.AuthorizeOrder(t.Context(), acme.DomainIDs("c.example.com")); err != nil {
		t.Error(err)
	}
	s.AgreeToTerms(c.kid)
	c.order("b.example.com")
	s.ChangeTerms("")
	newRawClient(t, s).do(post{url: c.endpoint("/new-account"), payload: "{}"})
	c.order("d.example.com")
	if n := len(s.Accounts()); n != 3 {
		t.Errorf("%d accounts, want 3: without terms nobody has to agree\n%v", n, s)
	}
	defer func() {
		if recover() == nil {
			t.Error("AgreeToTerms for nobody did not panic")
		}
	}()
	s.AgreeToTerms(c.kid + "0")
}
