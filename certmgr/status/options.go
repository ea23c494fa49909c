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

// An Option changes what a Handler does.
type Option func(*options)

// options is what the Options of a Handler have set. It is not changed after
// that.
type options struct {
	names []string // see ServedAs
}

func newOptions(list []Option) options {
	var o options
	for _, set := range list {
		set(&o)
	}
	return o
}

// ServedAs adds names, without port, under which browsers may ask for the page
// on a loopback address, besides localhost and loopback IP addresses: those of a
// reverse proxy on the same machine that passes its Host header on. Case does
// not matter.
func ServedAs(names ...string) Option {
	return func(o *options) {
		for _, name := range names {
			o.names = append(o.names, plainName(name))
		}
	}
}

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
