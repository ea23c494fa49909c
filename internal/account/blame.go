package account

import (
	"crypto"
	"encoding/base64"
	"fmt"
	"net/http"
	"regexp"
	"strings"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/internal/acmeclient"
)

// blame finds out whose fault it is that a CA refuses an account: a setting's,
// the account's own, or the CA's. A CA that refuses for a reason that only the
// operator can remove works.
type blame struct {
	*base
	settings settings
	shared   bool // the key is in a store that outlives this process
}

// registering returns err, with which the lookup or the registration of an
// account failed. If the CA is not to blame, it says what is, and is marked as
// unavailable.
func (b *blame) registering(trace *acmeclient.Trace, key crypto.Signer, err error) error {
	if IsUnavailable(err) {
		return err
	}
	if trace.Failed() == acmeclient.EndpointDirectory {
		return b.directory(err)
	}
	p, kind := refusalOf(err)
	if p == nil {
		return err
	}
	if what := b.culprit(p, kind, key); what != "" {
		return unavailableFor(what, err)
	}
	return err
}

// directory blames the URL of the directory if there is nothing at that URL. A
// CA that is out of service has many other ways to say so: then the URL is only
// named. It is right if it is the default, or has worked before.
func (b *blame) directory(err error) error {
	if b.dir == acme.LetsEncryptURL || b.known.wasInUse() {
		return err
	}
	if p, ok := acmeclient.Refusal(err); ok {
		switch p.StatusCode {
		case http.StatusBadRequest, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusGone:
			return unavailableFor("Manager.Client.DirectoryURL "+quote(plainURL(b.dir))+" is no ACME directory", err)
		}
	}
	return fmt.Errorf("%w (is Manager.Client.DirectoryURL right?)", err)
}

// culprit returns what the CA does not accept, or "" if that is unknown. Some
// CAs give the reason in the problem's text only.
func (b *blame) culprit(p *acme.Error, kind string, key crypto.Signer) string {
	switch kind {
	case "invalidcontact", "unsupportedcontact":
		return b.email()
	case "badpublickey", "badsignaturealgorithm":
		return b.key(key)
	case "externalaccountrequired":
		return b.binding()
	case "useractionrequired":
		return actionRequired(p)
	}
	if saysUnusable(p) {
		return b.account()
	}
	words := wordsOf(p)
	switch {
	case bindingWords.MatchString(words):
		return b.binding()
	case contactWords.MatchString(words):
		return b.email()
	case termsWords.MatchString(words):
		return "Manager.Prompt has nothing to accept: the CA's directory names no terms of service, yet it requires them"
	case keyWords.MatchString(words):
		return b.key(key)
	case kind == "unauthorized" && b.settings.binding != nil:
		return b.binding()
	case kind == "unauthorized", kind == "accountdoesnotexist":
		return b.account()
	}
	return ""
}

var (
	bindingWords = regexp.MustCompile(`external.?account|\beab\b|\bbinding\b|\bhmac\b`)
	contactWords = regexp.MustCompile(`\bcontacts?\b|\be-?mail\b|\bmailto\b`)
	termsWords   = regexp.MustCompile(`\bterms of (service|use)\b|termsofservice|\bsubscriber agreement\b`)
	keyWords     = regexp.MustCompile(`\b(public|account) key\b|\bkey (size|type|length|algorithm)\b|\bcurve\b|\bmodulus\b`)
)

func (b *blame) email() string {
	if b.settings.email == "" {
		return "Manager.Email is empty, and the CA requires a contact"
	}
	return "Manager.Email " + quote(b.settings.email) + " is not accepted"
}

func (b *blame) binding() string {
	eab := b.settings.binding
	if eab == nil {
		return needsBinding
	}
	hint := ""
	if looksEncoded(eab.Key) {
		hint = "; its Key looks like base64, which has to be decoded first (base64.RawURLEncoding)"
	}
	return fmt.Sprintf("Manager.ExternalAccountBinding with the KID %s is not accepted%s", quote(eab.KID), hint)
}

const needsBinding = "Manager.ExternalAccountBinding is not set, and the CA requires it"

// looksEncoded reports whether a MAC key is probably the base64 of one.
func looksEncoded(key []byte) bool {
	text := strings.NewReplacer("+", "-", "/", "_", "=", "").Replace(strings.TrimSpace(string(key)))
	raw, err := base64.RawURLEncoding.DecodeString(text)
	return err == nil && len(raw) >= 16
}

func (b *blame) key(key crypto.Signer) string {
	if b.settings.key != nil {
		return "Manager.Client.Key (" + keyName(b.settings.key) + ") is not accepted"
	}
	name := "the account key"
	if key != nil {
		name += " (" + keyName(key) + ")"
	}
	return name + " is not accepted: " + b.otherKey()
}

// account says that an account cannot be used, and how to have another one.
func (b *blame) account() string {
	return "the account is refused: if that is final, " + b.otherKey() + " to register a new one"
}

// otherKey says how to have another key.
func (b *blame) otherKey() string {
	switch {
	case b.settings.key != nil:
		return "set another Manager.Client.Key"
	case b.shared:
		return fmt.Sprintf("delete the entry %q from the Cache", currentEntry)
	}
	return "restart"
}
