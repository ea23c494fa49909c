package certmgr_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
)

func TestAccountFollowsTheManagersFields(t *testing.T) {
	mac := []byte("0123456789abcdef0123456789abcdef")
	bound := func(ca *acmetest.Server) { ca.EAB = map[string][]byte{"kid-1": mac} }
	terms := func(ca *acmetest.Server) { ca.Terms = "https://ca.invalid/terms" }
	var asked string
	tests := []struct {
		name string
		ca   func(*acmetest.Server)
		m    *certmgr.Manager
		err  string // what the error says, empty for none
	}{
		{"nothing set", nil, &certmgr.Manager{}, ""},
		{"email", nil, &certmgr.Manager{Email: "ops@example.com"}, ""},
		{"terms accepted", terms, &certmgr.Manager{Prompt: func(url string) bool { asked = url; return true }}, ""},
		{"terms declined", terms, &certmgr.Manager{Prompt: func(url string) bool { asked = url; return false }}, "https://ca.invalid/terms"},
		{"terms without a prompt", terms, &certmgr.Manager{}, "Manager.Prompt"},
		{"external account", bound, &certmgr.Manager{ExternalAccountBinding: &acme.ExternalAccountBinding{KID: "kid-1", Key: mac}}, ""},
		{"external account missing", bound, &certmgr.Manager{}, "Manager.ExternalAccountBinding"},
		{"external account wrong", bound, &certmgr.Manager{ExternalAccountBinding: &acme.ExternalAccountBinding{KID: "kid-1", Key: []byte("wrong-mac-key")}}, "unauthorized"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			inCA(t, test.ca, func(t *testing.T, ca *acmetest.Server) {
				asked = ""
				m := test.m
				m.Client, m.HostPolicy = clientOf(ca), certmgr.HostWhitelist("example.com")
				m.Audit = func(context.Context, audit.Event) {}
				start(t, ca, m)
				_, err := m.GetCertificate(hello("example.com"))
				err = certmgr.InFull(err)
				switch {
				case test.err == "" && err != nil:
					t.Fatal(err)
				case test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)):
					t.Fatalf("error %v, want one that names %s", err, test.err)
				case err != nil && strings.Contains(err.Error(), "wrong-mac-key"):
					t.Fatalf("the error shows the key: %v", err)
				case m.Prompt != nil && asked != ca.Terms:
					t.Fatalf("Prompt was asked about %q", asked)
				case err != nil:
					return
				}
				var contact []string
				if m.Email != "" {
					contact = []string{"mailto:" + m.Email}
				}
				if accounts := ca.Accounts(); len(accounts) != 1 || !slices.Equal(accounts[0].Contact, contact) {
					t.Errorf("accounts %v, want one with the contact %q", accounts, contact)
				}
			})
		})
	}
}
