package status

import (
	"errors"
	"fmt"
	"maps"
	"mime"
	"net/http"
	"slices"
	"strings"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
)

// form is what a request asks for.
type form struct {
	action certmgr.ActionKind
	host   string
	reason acme.CRLReasonCode
}

// maxForm is the largest form in bytes; a real one has some 300.
const maxForm = 4096

// formError is an error of a request, with its status.
type formError struct {
	status int
	text   string
}

func (e *formError) Error() string { return e.text }

func badForm(format string, args ...any) error {
	return &formError{http.StatusBadRequest, fmt.Sprintf(format, args...)}
}

// reasons returns the reasons for a revocation that an operator can choose
// (RFC 5280, section 5.3.1), by the names there.
func reasons() map[string]acme.CRLReasonCode {
	return map[string]acme.CRLReasonCode{
		"unspecified":          acme.CRLReasonUnspecified,
		"keyCompromise":        acme.CRLReasonKeyCompromise,
		"superseded":           acme.CRLReasonSuperseded,
		"cessationOfOperation": acme.CRLReasonCessationOfOperation,
		"affiliationChanged":   acme.CRLReasonAffiliationChanged,
		"privilegeWithdrawn":   acme.CRLReasonPrivilegeWithdrawn,
	}
}

// parseForm reads a request's body.
func parseForm(w http.ResponseWriter, r *http.Request, mayRevoke bool) (f form, err error) {
	if mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || mediaType != "application/x-www-form-urlencoded" {
		return f, &formError{http.StatusUnsupportedMediaType, "send a form (application/x-www-form-urlencoded)"}
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
			return f, &formError{http.StatusRequestEntityTooLarge, fmt.Sprintf("the form has more than %d bytes", maxForm)}
		}
		return f, badForm("the form is not well formed") // the error would quote it
	}
	for _, name := range []string{"action", "host", "reason", "confirm"} {
		if len(r.PostForm[name]) > 1 {
			return f, badForm("the form has more than one %s", name)
		}
	}
	kinds := []string{string(certmgr.ActionRetry), string(certmgr.ActionRenew), string(certmgr.ActionReload)}
	if mayRevoke {
		kinds = append(kinds, string(certmgr.ActionRevoke))
	}
	kind, err := choice(r.PostForm, "action", "", kinds)
	if err != nil || kind == "" {
		return f, badForm("action must be one of %s", strings.Join(kinds, ", "))
	}
	f.action = certmgr.ActionKind(kind)
	if f.action == certmgr.ActionReload {
		return f, nil
	}
	if f.host, err = name(r.PostForm, "host"); err != nil {
		return f, badForm("%v", err)
	}
	if f.host == "" {
		return f, badForm("the form has no host")
	}
	if f.action != certmgr.ActionRevoke {
		return f, nil
	}
	known := reasons()
	names := slices.Sorted(maps.Keys(known))
	reason, err := choice(r.PostForm, "reason", "", names)
	if err != nil || reason == "" {
		return f, badForm("reason must be one of %s", strings.Join(names, ", "))
	}
	f.reason = known[reason]
	if confirm, err := name(r.PostForm, "confirm"); err != nil || strings.TrimSuffix(confirm, ".") != f.host {
		return f, badForm("a certificate is revoked for good: repeat the host's name in confirm")
	}
	return f, nil
}
