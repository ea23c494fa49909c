package acmeclient

import (
	"net/http"
	"testing"
)

// Without a user's client, http.DefaultTransport is copied, and never changed.
func TestDefaultTransportKeepsMoreIdleConnections(t *testing.T) {
	before := http.DefaultTransport
	defer func() { http.DefaultTransport = before }()
	users := &http.Transport{DisableKeepAlives: true, ForceAttemptHTTP2: true}
	http.DefaultTransport = users

	var d defaultTransport
	ours, ok := d.transport().(*http.Transport)
	if !ok || ours == users || ours.MaxIdleConnsPerHost != 64 || !ours.DisableKeepAlives || !ours.ForceAttemptHTTP2 {
		t.Errorf("not a copy that keeps 64 idle connections: %+v", ours)
	}
	if users.MaxIdleConnsPerHost != 0 {
		t.Error("http.DefaultTransport was changed")
	}
	if d.transport() != ours {
		t.Error("another copy for the next request")
	}
	http.DefaultTransport = &http.Transport{MaxIdleConnsPerHost: 500}
	if now := d.transport().(*http.Transport); now == ours || now.MaxIdleConnsPerHost != 500 {
		t.Errorf("not a copy of the new http.DefaultTransport: %+v", now)
	}
	type other struct{ http.RoundTripper }
	http.DefaultTransport = &other{users}
	if d.transport() != http.DefaultTransport {
		t.Error("a RoundTripper that is no *http.Transport was replaced")
	}
}

// The transport is only replaced if all is net/http's: never in a user's client.
func TestUsersTransportIsLeftAlone(t *testing.T) {
	if tr := New(Config{HTTPClient: &http.Client{}}).client().Transport; tr != nil {
		t.Errorf("a user's client without a transport got %T", tr)
	}
	ca := New(Config{})
	if tr, ok := ca.client().Transport.(*http.Transport); !ok || tr == http.DefaultTransport {
		t.Errorf("without a user's client: %T, want a copy of http.DefaultTransport", tr)
	}
	before := http.DefaultClient
	defer func() { http.DefaultClient = before }()
	own := &http.Transport{}
	http.DefaultClient = &http.Client{Transport: own}
	if tr := ca.client().Transport; tr != own {
		t.Errorf("the transport of http.DefaultClient was replaced: %T", tr)
	}
}
