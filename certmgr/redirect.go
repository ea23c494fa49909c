package certmgr

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// redirectToHTTPS is the default fallback of HTTPHandler.
func redirectToHTTPS(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		http.Error(w, "Use HTTPS", http.StatusBadRequest)
		return
	}
	target, ok := httpsURL(r)
	if !ok {
		http.Error(w, "Use HTTPS, with a valid host and path", http.StatusBadRequest)
		return
	}
	http.Redirect(w, r, target, http.StatusFound)
}

// httpsURL returns the URL on port 443 for a request, if its host and target
// make one: a target in another form than a path (RFC 9112, section 3.2) would
// be appended to the host and could make it another.
func httpsURL(r *http.Request) (target string, ok bool) {
	host, ok := httpsHost(r.Host)
	if !ok || r.URL.Opaque != "" || r.URL.Path != "" && r.URL.Path[0] != '/' {
		return "", false
	}
	u := url.URL{
		Scheme:     "https",
		Host:       host,
		Path:       r.URL.Path,
		RawPath:    r.URL.RawPath,
		ForceQuery: r.URL.ForceQuery,
		RawQuery:   r.URL.RawQuery,
	}
	if u.Path == "" {
		u.Path = "/"
	}
	return u.String(), true
}

// httpsHost returns the normal form of a Host header. Its port, if it has one,
// becomes 443, as in autocert.
func httpsHost(hostport string) (host string, ok bool) {
	name, _, err := net.SplitHostPort(hostport)
	hasPort := err == nil
	if !hasPort {
		name = strings.TrimSuffix(strings.TrimPrefix(hostport, "["), "]")
	}
	if addr, err := netip.ParseAddr(name); err == nil && addr.Zone() == "" {
		name = addr.String()
		if addr.Is6() && !hasPort {
			name = "[" + name + "]"
		}
	} else if name, ok = webName(name); !ok {
		return "", false
	}
	if hasPort {
		return net.JoinHostPort(name, "443"), true
	}
	return name, true
}

// webName returns the normal form of the name in a URL. It is laxer than
// normalizeHost, since the page need not be served by this Manager: a name of
// one label, or with an underscore, will do.
func webName(name string) (host string, ok bool) {
	if host, err := normalizeHost(name, noHostHeader); err == nil {
		return host, true
	}
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if name == "" || len(name) > 253 || strings.Contains(name, "..") || name[0] == '.' {
		return "", false
	}
	for _, c := range []byte(name) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.' {
			return "", false
		}
	}
	return name, true
}
