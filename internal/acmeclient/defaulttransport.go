package acmeclient

import (
	"net/http"
	"sync"
)

// maxIdle is how many idle connections to the CA are kept. http.DefaultTransport
// keeps two: with more attempts at a time over HTTP/1.1, most requests would
// need a handshake.
const maxIdle = 64

// client returns a copy of the user's client, or of http.DefaultClient. It is made
// for each request, so that is looked up as late as in net/http.
func (ca *CA) client() http.Client {
	if ca.cfg.HTTPClient != nil {
		return *ca.cfg.HTTPClient
	}
	client := *http.DefaultClient
	if client.Transport == nil {
		client.Transport = ca.defaults.transport()
	}
	return client
}

// defaultTransport is a copy of http.DefaultTransport that keeps more idle
// connections. The zero value is ready. It is safe for concurrent use.
type defaultTransport struct {
	mu   sync.Mutex
	of   *http.Transport
	copy *http.Transport // of it
}

// transport returns the copy. The program may have replaced
// http.DefaultTransport since the last call. If that is of another type, it is
// returned as it is.
func (d *defaultTransport) transport() http.RoundTripper {
	now, ok := http.DefaultTransport.(*http.Transport)
	if !ok {
		return http.DefaultTransport
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.of != now {
		if d.copy != nil {
			d.copy.CloseIdleConnections()
		}
		d.of, d.copy = now, now.Clone()
		d.copy.MaxIdleConnsPerHost = max(now.MaxIdleConnsPerHost, maxIdle)
	}
	return d.copy
}

func (d *defaultTransport) closeIdle() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.copy != nil {
		d.copy.CloseIdleConnections()
	}
}
