package status

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// An Option changes what Handler or Admin does; its documentation says which.
type Option func(*options)

// options is what the Options of a handler have set. It is not changed after
// that.
type options struct {
	names   []string // see ServedAs
	adminAt string   // see AdminAt
	pageAt  string   // see PageAt
	revoke  bool     // see AllowRevoke
}

func newOptions(list []Option) options {
	o := options{pageAt: "./"}
	for _, set := range list {
		set(&o)
	}
	return o
}

// ServedAs adds names, without port, under which browsers may ask Handler and
// Admin on a loopback address, besides localhost and loopback IP addresses: those of a
// reverse proxy on the same machine that passes its Host header on. Case does
// not matter.
func ServedAs(names ...string) Option {
	return func(o *options) {
		for _, name := range names {
			o.names = append(o.names, plainName(name))
		}
	}
}

// AdminAt makes the page of Handler show buttons, which send forms to the
// handler that Admin returned. path is its URL, absolute ("/debug/certs/admin")
// or relative to the page's ("admin"). It must be on the page's own origin: the
// page's Content-Security-Policy allows no other. Without this option the page
// has no buttons.
func AdminAt(path string) Option { return func(o *options) { o.adminAt = path } }

// PageAt tells Admin where the page is: there a browser is sent after an action.
// path is its URL, absolute ("/debug/certs/") or relative to Admin's. Without
// this option it is "./": the page at /debug/certs/ belongs to the Admin at
// /debug/certs/admin.
func PageAt(path string) Option { return func(o *options) { o.pageAt = path } }

// AllowRevoke lets Admin revoke certificates, which it refuses otherwise, and
// makes the page of Handler show the form for it on a host's own page.
func AllowRevoke() Option { return func(o *options) { o.revoke = true } }

// checkHost refuses a request that came to a loopback address under another
// name. A page of a stranger's can have its own name resolve to 127.0.0.1, and
// then read what a browser gets there (DNS rebinding). Other addresses have
// their own protection, such as a login, whose cookies the stranger's name does
// not get.
func (o options) checkHost(r *http.Request) error {
	if !isLoopback(r.Context()) {
		return nil
	}
	name := r.Host
	if host, _, err := net.SplitHostPort(name); err == nil {
		name = host
	}
	name = plainName(name)
	if ip, err := netip.ParseAddr(name); err == nil && ip.Unmap().IsLoopback() {
		return nil
	}
	if name == "localhost" || slices.Contains(o.names, name) {
		return nil
	}
	return fmt.Errorf("this page is served on a loopback address, and only under the name localhost, a loopback IP address "+
		"or a name that the option status.ServedAs adds, but the request's Host is %q", clean(r.Host, maxName))
}

// isLoopback reports whether a request came to a loopback address.
func isLoopback(ctx context.Context) bool {
	local, ok := ctx.Value(http.LocalAddrContextKey).(net.Addr)
	if !ok {
		return false
	}
	at, err := netip.ParseAddrPort(local.String())
	return err == nil && at.Addr().Unmap().IsLoopback()
}

// plainName returns a host name or IP address as names are compared.
func plainName(name string) string {
	name = strings.TrimSuffix(strings.ToLower(name), ".")
	return strings.TrimSuffix(strings.TrimPrefix(name, "["), "]")
}
