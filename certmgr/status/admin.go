package status

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/internal/text"
)

// Admin returns a handler by which operators act on m: retry a host, renew it,
// read the allowlist's file again and, with AllowRevoke, revoke a certificate.
// It is apart from Handler, which never changes anything. See "What operators
// can do" in the package documentation.
//
// who says who sent a request, by whatever authentication there is: a session, a
// client certificate, the header of an identity-aware proxy. It is called for
// each request, concurrently, before the body is read, and must not read it.
// The audit trail shows the first 128 bytes of the name, escaped. If who returns
// an error or an empty name, or panics, the request is refused (403): the error
// goes to the audit trail, and the client is not told. Return an error for those
// who may look but not act, too.
//
// Admin panics if m or who is nil.
func Admin(m *certmgr.Manager, who func(*http.Request) (string, error), list ...Option) http.Handler {
	if m == nil {
		panic("status: Admin without a Manager")
	}
	if who == nil {
		panic("status: Admin without a function who, which says who sent a request: without one anybody could act")
	}
	return &admin{
		m:       m,
		who:     who,
		foreign: http.NewCrossOriginProtection(),
		options: newOptions(list),
	}
}

type admin struct {
	m       *certmgr.Manager
	who     func(*http.Request) (string, error)
	foreign *http.CrossOriginProtection // refuses requests that another site has a browser send
	options options
}

// ServeHTTP implements http.Handler.
func (h *admin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	setHeaders(w.Header())
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "Actions are sent by POST.", http.StatusMethodNotAllowed)
		return
	}
	if err := h.options.checkHost(r); err != nil {
		h.m.ReportDenied(r.RemoteAddr, err)
		http.Error(w, "Misdirected request: "+err.Error()+".", http.StatusMisdirectedRequest)
		return
	}
	if err := h.foreign.Check(r); err != nil {
		h.m.ReportDenied(r.RemoteAddr, err)
		http.Error(w, "This request comes from another site.", http.StatusForbidden)
		return
	}
	actor, err := h.ask(r)
	if err != nil {
		h.m.ReportDenied(r.RemoteAddr, err)
		http.Error(w, "You may not do this.", http.StatusForbidden)
		return
	}
	f, err := parseForm(w, r, h.options.revoke)
	if err != nil {
		h.answer(w, r, answer{form: f, err: err})
		return
	}
	res, err := h.m.Act(r.Context(), certmgr.Action{
		Kind:       f.action,
		Host:       f.host,
		Actor:      actor,
		RemoteAddr: r.RemoteAddr,
		Reason:     f.reason,
	})
	h.answer(w, r, answer{form: f, res: res, err: err})
}

// ask returns who sent a request.
func (h *admin) ask(r *http.Request) (name string, err error) {
	returned := false
	defer func() {
		if returned {
			return
		}
		if p := recover(); p != nil {
			where, _ := text.PanicStack()
			err = fmt.Errorf("who panicked: %s (in %s)", clean(fmt.Sprint(p), maxText), where)
			return
		}
		h.m.ReportDenied(r.RemoteAddr, errors.New("who ended its goroutine")) // and so this ends too
	}()
	name, err = h.who(r)
	returned = true
	if err == nil && strings.TrimSpace(name) == "" {
		err = errors.New("who returned no name")
	}
	return name, err
}
