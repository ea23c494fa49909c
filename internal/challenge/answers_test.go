package challenge_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"strings"
	"testing"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/internal/bundle"
	"github.com/nostall/nostall/internal/challenge"
)

// entries is a Store that fails if err is set.
type entries struct {
	data  map[string][]byte
	err   error
	later map[string]string // what is to be deleted later
}

func (e *entries) Put(_ context.Context, key string, data []byte) error {
	if e.err == nil {
		e.data[key] = data
	}
	return e.err
}

func (e *entries) Delete(_ context.Context, key string) error {
	delete(e.data, key)
	return e.err
}

func (e *entries) DeleteLater(key string, data []byte) {
	if e.later == nil {
		e.later = make(map[string]string)
	}
	e.later[key] = string(data)
}

// present makes the response to a challenge available, with a new account key.
func present(t *testing.T, answers *challenge.Answers, typ, token, host string) *challenge.Answer {
	t.Helper()
	answer, err := answers.Present(t.Context(), newClient(t), &acme.Challenge{Type: typ, Token: token}, host)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

func newClient(t *testing.T) *acme.Client {
	t.Helper()
	key, err := bundle.GenerateKey(bundle.P256)
	if err != nil {
		t.Fatal(err)
	}
	return &acme.Client{Key: key}
}

func TestTLSALPN01AnswerIsACertificateForTheHost(t *testing.T) {
	store := &entries{data: make(map[string][]byte)}
	answers := challenge.NewAnswers(store)
	answer := present(t, answers, challenge.TLSALPN01, "token", "a.example.com")
	cert := answers.Certificate("a.example.com")
	if cert == nil || !answer.Stored() || !bytes.Equal(cert.Certificate[0], answer.Proof()) {
		t.Fatal("the certificate is not live")
	}
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil || leaf.VerifyHostname("a.example.com") != nil {
		t.Errorf("%v, %v", leaf, err)
	}
	if _, chain, err := bundle.Decode(store.data["a.example.com+token"]); err != nil || !bytes.Equal(chain[0], answer.Proof()) {
		t.Errorf("the Cache's entry is another one: %v", err)
	}
	if answers.Certificate("b.example.com") != nil || answers.KeyAuthorization("a.example.com", "token") != nil {
		t.Error("it answers more than it should")
	}
	answer.Remove()
	if answers.Certificate("a.example.com") != nil || store.data["a.example.com+token"] == nil {
		t.Error("Remove: it is still live, or deleted from the Cache already")
	}
	answer.Forget(t.Context())
	if len(store.data) != 0 {
		t.Error("the Cache still has it")
	}
}

func TestHTTP01AnswerIsForItsHostAlone(t *testing.T) {
	store := &entries{data: make(map[string][]byte)}
	answers := challenge.NewAnswers(store)
	answer := present(t, answers, challenge.HTTP01, "token", "a.example.com")
	body := answers.KeyAuthorization("a.example.com", "token")
	if !strings.HasPrefix(string(body), "token.") || !bytes.Equal(body, answer.Proof()) || !bytes.Equal(body, store.data["token+http-01"]) {
		t.Errorf("body %q", body)
	}
	if answers.KeyAuthorization("b.example.com", "token") != nil || answers.KeyAuthorization("a.example.com", "other") != nil {
		t.Error("it answers more than it should")
	}
	wantForeign := func(want bool) {
		t.Helper()
		if answers.IsForeign("b.example.com", "token") != want || answers.IsForeign("a.example.com", "token") || answers.IsForeign("b.example.com", "other") {
			t.Errorf("another host's token is foreign: %v, want %v", !want, want)
		}
	}
	wantForeign(true)
	answer.Remove()
	wantForeign(true) // it is in the Cache still
	answer.Forget(t.Context())
	wantForeign(false)
	if answers.KeyAuthorization("a.example.com", "token") != nil || len(store.data) != 0 {
		t.Error("it is still there")
	}
}

// An answer that cannot be deleted is deleted later, so that none is left for
// ever.
func TestAnswerThatCannotBeDeletedIsDeletedLater(t *testing.T) {
	store := &entries{data: make(map[string][]byte)}
	answers := challenge.NewAnswers(store)
	answer := present(t, answers, challenge.HTTP01, "token", "a.example.com")
	store.err = errors.New("down")
	if answer.Forget(t.Context()); store.later["token+http-01"] != string(answer.Proof()) {
		t.Errorf("to be deleted later: %q", store.later)
	}
	unstored := present(t, answers, challenge.HTTP01, "other", "a.example.com")
	if unstored.Forget(t.Context()); len(store.later) != 1 {
		t.Errorf("to be deleted later: %q", store.later)
	}
}

func TestWithdrawDeletesWhatAnotherProcessPresented(t *testing.T) {
	store := &entries{data: make(map[string][]byte)}
	other, answers := challenge.NewAnswers(store), challenge.NewAnswers(store)
	for _, typ := range []string{challenge.TLSALPN01, challenge.HTTP01} {
		present(t, other, typ, "token", "a.example.com")
		answers.Withdraw(t.Context(), &acme.Challenge{Type: typ, Token: "../token"}, "b.example.com")
		if len(store.data) != 1 {
			t.Errorf("%s: another answer was deleted", typ)
		}
		answers.Withdraw(t.Context(), &acme.Challenge{Type: typ, Token: "token"}, "a.example.com")
		if len(store.data) != 0 {
			t.Errorf("%s: it is still there", typ)
		}
	}
}

func TestRemoveLeavesALaterAnswer(t *testing.T) {
	answers := challenge.NewAnswers(&entries{data: make(map[string][]byte)})
	first := present(t, answers, challenge.TLSALPN01, "one", "a.example.com")
	second := present(t, answers, challenge.TLSALPN01, "two", "a.example.com")
	first.Remove()
	if cert := answers.Certificate("a.example.com"); cert == nil || !bytes.Equal(cert.Certificate[0], second.Proof()) {
		t.Error("the second answer is gone")
	}
}

func TestAnswerIsLiveWithoutTheCache(t *testing.T) {
	answers := challenge.NewAnswers(&entries{err: errors.New("disk full")})
	if answer := present(t, answers, challenge.HTTP01, "token", "a.example.com"); answer.Stored() {
		t.Error("it is said to be stored")
	}
	if answers.KeyAuthorization("a.example.com", "token") == nil {
		t.Error("it is not live")
	}
}

func TestChallengesThatCannotBeAnswered(t *testing.T) {
	for name, chal := range map[string]*acme.Challenge{
		"type":  {Type: "dns-01", Token: "token"},
		"token": {Type: challenge.HTTP01, Token: "../a.example.com"},
		"empty": {Type: challenge.HTTP01},
	} {
		store := &entries{data: make(map[string][]byte)}
		if _, err := challenge.NewAnswers(store).Present(t.Context(), newClient(t), chal, "a.example.com"); err == nil || len(store.data) != 0 {
			t.Errorf("%s: %v, %d entries", name, err, len(store.data))
		}
	}
}

func TestSightingCountsRequests(t *testing.T) {
	answers := challenge.NewAnswers(&entries{data: make(map[string][]byte)})
	for typ, missing := range map[string]string{challenge.TLSALPN01: "port 443", challenge.HTTP01: "port 80"} {
		answer := present(t, answers, typ, "token", "a.example.com")
		if said := answer.Sighting(); !strings.HasPrefix(said, "no "+typ) || !strings.Contains(said, missing) {
			t.Errorf("%s: %q", typ, said)
		}
		for range 2 {
			answers.Certificate("a.example.com")
			answers.KeyAuthorization("a.example.com", "token")
		}
		if said := answer.Sighting(); !strings.Contains(said, "reached this process 2 times") {
			t.Errorf("%s: %q", typ, said)
		}
	}
}

// A hint goes by what the CA says, and by whether its request arrived.
func TestHintFitsTheReason(t *testing.T) {
	const acmeError = "urn:ietf:params:acme:error:"
	for _, tt := range []struct {
		typ, kind, detail string
		arrived           bool
		want              string
	}{
		{challenge.TLSALPN01, "caa", "CAA record for example.com prevents issuance", false, "CAA records do not allow this CA"},
		{challenge.HTTP01, "dns", "DNS problem: NXDOMAIN looking up A for a.example.com", false, "does not exist in DNS"},
		{challenge.HTTP01, "dns", "DNS problem: SERVFAIL looking up CAA for a.example.com", true, "name servers fail"},
		{challenge.HTTP01, "dns", "DNS problem: query timed out looking up A", false, "do not answer the CA"},
		{challenge.HTTP01, "dns", "no valid A records found for a.example.com", false, "A and AAAA records"},
		{challenge.HTTP01, "rateLimited", "too many", false, "limit ends by itself"},
		{challenge.TLSALPN01, "connection", "Timeout during connect (likely firewall problem)", false, "port 443 open"},
		{challenge.HTTP01, "connection", "Connection refused", false, "port 80 open"},
		{challenge.HTTP01, "connection", "Connection refused", true, "not from everywhere"},
		{challenge.TLSALPN01, "unauthorized", "Incorrect validation certificate for tls-alpn-01 challenge", false, "no tls-alpn-01 handshake"},
		{challenge.TLSALPN01, "unauthorized", "Incorrect validation certificate for tls-alpn-01 challenge", true, "got another answer too"},
		{challenge.TLSALPN01, "unauthorized", `Cannot negotiate ALPN protocol "acme-tls/1" for tls-alpn-01 challenge`, true, "NextProtos"},
		{challenge.TLSALPN01, "tls", "remote error: tls: no application protocol", false, "NextProtos"},
		{challenge.TLSALPN01, "tls", "remote error: tls: handshake failure", true, "client certificate"},
		{challenge.TLSALPN01, "tls", "remote error: tls: handshake failure", false, "no tls-alpn-01 handshake"},
		{challenge.TLSALPN01, "tls", "remote error: tls: certificate required", false, "client certificate"},
		{challenge.TLSALPN01, "tls", "remote error: tls: internal error", true, "failed afterwards"},
	} {
		answers := challenge.NewAnswers(&entries{data: make(map[string][]byte)})
		answer := present(t, answers, tt.typ, "token", "a.example.com")
		if tt.arrived {
			answers.Certificate("a.example.com")
			answers.KeyAuthorization("a.example.com", "token")
		}
		said := answer.Hint(&acme.Error{ProblemType: acmeError + tt.kind, Detail: tt.detail})
		if !strings.Contains(said, tt.want) || len(said) > 256 || strings.Contains(said, "was answered") {
			t.Errorf("%s, %s, %t: %q, want %q", tt.kind, tt.detail, tt.arrived, said, tt.want)
		}
	}
	answer := present(t, challenge.NewAnswers(&entries{data: make(map[string][]byte)}), challenge.HTTP01, "token", "a.example.com")
	if said := answer.Hint(nil); said != answer.Sighting() {
		t.Errorf("no reason: %q", said)
	}
}

// A slow Cache does not keep a CA waiting that comes to this machine, nor does
// a key that cannot answer leave anything behind.
func TestAnswerIsHereBeforeItIsInTheCache(t *testing.T) {
	store := &lookingStore{}
	answers := challenge.NewAnswers(store)
	store.look = func() bool {
		return answers.Certificate("a.example.com") != nil || answers.KeyAuthorization("a.example.com", "token") != nil
	}
	for _, typ := range []string{challenge.TLSALPN01, challenge.HTTP01} {
		store.found = false
		present(t, answers, typ, "token", "a.example.com").Remove()
		if !store.found {
			t.Errorf("%s: the answer is not here while it is written to the Cache", typ)
		}
		store.found = false
		if _, err := answers.Present(t.Context(), &acme.Client{Key: noKey{}}, &acme.Challenge{Type: typ, Token: "token"}, "a.example.com"); err == nil || store.found {
			t.Errorf("%s: an account key of an unknown kind: %v", typ, err)
		}
	}
}

// lookingStore notes whether the answer is here during Put.
type lookingStore struct {
	look  func() bool
	found bool
}

func (s *lookingStore) Put(context.Context, string, []byte) error {
	s.found = s.look()
	return nil
}

func (*lookingStore) Delete(context.Context, string) error { return nil }
func (*lookingStore) DeleteLater(string, []byte)           {}

// noKey is a key of a kind that ACME does not have.
type noKey struct{ crypto.Signer }

func (noKey) Public() crypto.PublicKey { return nil }
