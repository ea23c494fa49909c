package account

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"errors"
	"fmt"
	"net/mail"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"unicode"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/internal/acmeclient"
)

// settings holds the user's settings that an account depends on. Its checks
// find the values that no CA could accept, so that none is asked. Their errors
// name the field first.
type settings struct {
	directory string
	plainHTTP bool // to another machine is accepted
	userAgent string
	key       crypto.Signer // or nil
	email     string
	binding   *acme.ExternalAccountBinding
}

// check returns what is wrong with the settings that each request depends on.
func (s settings) check() error {
	if err := checkDirectory(s.directory); err != nil {
		return err
	}
	if u, err := url.Parse(s.directory); err == nil && u.Scheme == "http" && !s.plainHTTP && !acmeclient.IsLoopback(u.Hostname()) {
		return fmt.Errorf("Manager.Client.DirectoryURL %s is plain http to another machine, where anyone on the way can change "+
			"what is sent: use https, or set Manager.PlainHTTP", quote(plainURL(s.directory)))
	}
	if strings.ContainsFunc(s.userAgent, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
		return fmt.Errorf("Manager.Client.UserAgent %s contains a control character", quote(s.userAgent))
	}
	if s.key == nil {
		return nil
	}
	if v := reflect.ValueOf(s.key); v.Kind() == reflect.Pointer && v.IsNil() {
		return fmt.Errorf("Manager.Client.Key is a nil %T", s.key)
	}
	if err := checkKey(s.key); err != nil {
		return fmt.Errorf("Manager.Client.Key %w", err)
	}
	return nil
}

// checkNew returns what is wrong with the settings that only a registration
// depends on.
func (s settings) checkNew() error {
	if err := checkEmail(s.email); err != nil {
		return err
	}
	return checkBinding(s.binding)
}

func checkDirectory(directory string) error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("Manager.Client.DirectoryURL %s %s", quote(plainURL(directory)), fmt.Sprintf(format, args...))
	}
	if flaw := flawOf(directory); flaw != "" {
		return bad("%s", flaw)
	}
	scheme, _, ok := strings.Cut(directory, "://")
	switch {
	case !ok:
		return bad(`has no scheme: it must begin with "https://"`)
	case !strings.EqualFold(scheme, "https") && !strings.EqualFold(scheme, "http"):
		return bad("has the scheme %s, not https", quote(scheme))
	}
	u, err := url.Parse(directory)
	if err != nil {
		return bad("is not a URL: %v", parseError(err))
	}
	if u.Hostname() == "" {
		return bad("names no host")
	}
	if port := u.Port(); port != "" {
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return bad("has the port %s", port)
		}
	}
	return nil
}

// parseError returns the cause of an error of url.Parse, which repeats the URL.
func parseError(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}

// plainURL returns a URL, which may be invalid, without what may be secret:
// user, query and fragment.
func plainURL(raw string) string {
	if i := strings.IndexAny(raw, "?#"); i >= 0 {
		raw = raw[:i] + "..."
	}
	scheme, rest, ok := strings.Cut(raw, "://")
	authority, path, isLong := strings.Cut(rest, "/")
	i := strings.LastIndexByte(authority, '@')
	if !ok || i < 0 {
		return raw
	}
	raw = scheme + "://..." + authority[i:]
	if isLong {
		raw += "/" + path
	}
	return raw
}

func checkEmail(email string) error {
	if email == "" {
		return nil
	}
	bad := func(what string) error { return fmt.Errorf("Manager.Email %s %s", quote(email), what) }
	if flaw := flawOf(email); flaw != "" {
		return bad(flaw)
	}
	if len(email) >= 7 && strings.EqualFold(email[:7], "mailto:") {
		return bad(`begins with "mailto:": it must be the address alone`)
	}
	if !strings.Contains(email, "@") {
		return bad("is not an email address: it has no @")
	}
	if strings.ContainsAny(email, "?#") { // they end the address of a mailto URL
		return bad("contains ? or #")
	}
	switch parsed, err := mail.ParseAddress(email); {
	case strings.Contains(email, ","):
		return bad("is more than one address")
	case err != nil:
		return bad("is not an email address: " + strings.TrimPrefix(err.Error(), "mail: "))
	case parsed.Address != email:
		return bad("is more than the address alone, such as " + quote(parsed.Address))
	}
	return nil
}

func checkBinding(b *acme.ExternalAccountBinding) error {
	if b == nil {
		return nil
	}
	if b.KID == "" {
		return errors.New("Manager.ExternalAccountBinding has an empty KID")
	}
	if flaw := flawOf(b.KID); flaw != "" {
		return fmt.Errorf("Manager.ExternalAccountBinding: the KID %s %s", quote(b.KID), flaw)
	}
	if len(b.Key) == 0 {
		return fmt.Errorf("Manager.ExternalAccountBinding has an empty Key (KID %s)", quote(b.KID))
	}
	return nil
}

// checkKey returns what is wrong with a key that cannot sign ACME requests.
func checkKey(key crypto.Signer) error {
	switch pub := key.Public().(type) {
	case *rsa.PublicKey:
		return nil
	case *ecdsa.PublicKey:
		switch pub.Curve {
		case elliptic.P256(), elliptic.P384(), elliptic.P521():
			return nil
		}
	}
	return fmt.Errorf("is %s, with which no account can be had: use ECDSA on P-256, P-384 or P-521, or RSA", keyName(key))
}

// keyName says what kind of key it is.
func keyName(key crypto.Signer) string {
	switch pub := key.Public().(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA with %d bits", pub.N.BitLen())
	case *ecdsa.PublicKey:
		if pub.Curve != nil {
			return "ECDSA on " + pub.Curve.Params().Name
		}
		return "ECDSA without a curve"
	case nil:
		return "a key without its public part"
	default:
		return strings.TrimPrefix(fmt.Sprintf("%T", pub), "*")
	}
}

// flawOf says what is wrong with a value from a file or the environment that
// was not trimmed, or returns "".
func flawOf(value string) string {
	const quotes = "\"'`“”‘’«»"
	switch {
	case strings.HasSuffix(value, "\n"):
		return "ends with a newline"
	case strings.TrimSpace(value) != value:
		return "begins or ends with white space"
	case strings.HasPrefix(value, "<") && strings.HasSuffix(value, ">"):
		return "is in angle brackets"
	case value != strings.Trim(value, quotes):
		return "is in quotes"
	case strings.ContainsFunc(value, unicode.IsSpace):
		return "contains white space"
	case strings.ContainsFunc(value, func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar }):
		return "contains a character that cannot be printed"
	}
	return ""
}

// quote returns a value for an error, quoted and bounded.
func quote(value string) string {
	const most = 80
	if runes := []rune(value); len(runes) > most {
		return strconv.Quote(string(runes[:most])) + "..."
	}
	return strconv.Quote(value)
}
