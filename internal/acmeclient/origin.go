package acmeclient

import (
	"errors"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"sync"
)

// maxOrigins is how many origins other than the directory's are told of: a CA
// could make them up.
const maxOrigins = 8

// origins tells once of each origin that requests go to, other than the
// directory's. Signatures and the load of redirects go there because the CA says
// so.
type origins struct {
	own    string       // the directory's
	notify func(string) // Config.OnOrigin, may be nil

	mu   sync.Mutex
	seen map[string]bool
}

func (o *origins) note(u *url.URL) {
	origin := originOf(u)
	if o.notify == nil || origin == o.own || !o.isNew(origin) {
		return
	}
	o.notify(origin)
}

func (o *origins) isNew(origin string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.seen[origin] || len(o.seen) >= maxOrigins {
		return false
	}
	if o.seen == nil {
		o.seen = make(map[string]bool)
	}
	o.seen[origin] = true
	return true
}

// originOf returns scheme, host and port of a URL (RFC 6454, section 4), in
// bounded length.
func originOf(u *url.URL) string {
	host, port := strings.ToLower(u.Hostname()), u.Port()
	if port != "" && port != map[string]string{"https": "443", "http": "80"}[u.Scheme] {
		host = net.JoinHostPort(host, port)
	} else if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return cut(u.Scheme+"://"+host, maxDisplayURL)
}

var (
	errNotHTTPS  = errors.New("the directory's URL is https and this one is not: requests are sent over TLS only")
	errPlainHTTP = errors.New("plain http to another machine, where anyone on the way can read and change what is sent: " +
		"use https, or set Manager.PlainHTTP to accept that")
	errScheme   = errors.New("neither https nor http")
	errUserinfo = errors.New("the CA sent a URL with a user name or password, which is not used")
)

// refuse returns why no request is sent to u, an absolute URL, or nil. The user
// may give credentials in the directory's URL; nobody else gives any.
func (ca *CA) refuse(u *url.URL) error {
	base, err := url.Parse(ca.cfg.DirectoryURL)
	if err != nil {
		return err
	}
	if u.User != nil && (base.User == nil || u.User.String() != base.User.String() || originOf(u) != originOf(base)) {
		return errUserinfo
	}
	switch {
	case u.Scheme == "https":
		return nil
	case base.Scheme == "https":
		return errNotHTTPS
	case u.Scheme != "http":
		return errScheme
	case !ca.cfg.PlainHTTP && !IsLoopback(u.Hostname()):
		return errPlainHTTP
	}
	return nil
}

// IsLoopback reports whether a host is this machine (RFC 6761, section 6.3, and
// RFC 6890).
func IsLoopback(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.Unmap().IsLoopback()
	}
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}
