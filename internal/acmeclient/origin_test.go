package acmeclient

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/acme"
)

// What a CA names is asked only over TLS, and over plain http only where nobody
// is on the way, or the user accepts that.
func TestWhereRequestsGo(t *testing.T) {
	const https, local, remote = "https://ca.example/dir", "http://127.0.0.1:14000/dir", "http://ca.internal/dir"
	for _, tt := range []struct {
		directory, url string
		plain          bool
		want           error
	}{
		{https, "https://ca.example/order", false, nil},
		{https, "https://other.example:8443/order", false, nil},
		{https, "http://ca.example/order", false, errNotHTTPS},
		{https, "http://ca.example/order", true, errNotHTTPS},
		{https, "http://127.0.0.1/order", true, errNotHTTPS},
		{https, "ftp://ca.example/order", false, errNotHTTPS},
		{https, "file://localhost/etc/passwd", true, errNotHTTPS},
		{https, "https://user:secret@ca.example/order", false, errUserinfo},
		{local, "http://127.0.0.1:14000/order", false, nil},
		{local, "http://127.1.2.3/order", false, nil},
		{local, "http://[::1]:80/order", false, nil},
		{local, "http://[::ffff:127.0.0.1]/order", false, nil},
		{local, "http://localhost/order", false, nil},
		{local, "http://ca.Localhost./order", false, nil},
		{local, "https://ca.example/order", false, nil},
		{local, "http://ca.internal/order", false, errPlainHTTP},
		{local, "http://localhost.example/order", false, errPlainHTTP},
		{local, "http://192.0.2.1/order", false, errPlainHTTP},
		{local, "http://169.254.169.254/latest", false, errPlainHTTP},
		{local, "http://169.254.169.254/latest", true, nil},
		{local, "ftp://127.0.0.1/order", true, errScheme},
		{local, "http://me@127.0.0.1:14000/order", true, errUserinfo},
		{remote, "http://ca.internal/order", false, errPlainHTTP},
		{remote, "http://ca.internal/order", true, nil},
		{"https://me:secret@ca.example/dir", "https://me:secret@ca.example/order", false, nil}, // a path of the CA
		{"https://me:secret@ca.example/dir", "https://me:secret@other.example/order", false, errUserinfo},
		{"https://me:secret@ca.example/dir", "https://me:other@ca.example/order", false, errUserinfo},
	} {
		ca := New(Config{DirectoryURL: tt.directory, PlainHTTP: tt.plain})
		u, err := url.Parse(tt.url)
		if err != nil {
			t.Fatal(err)
		}
		if err := ca.refuse(u); err != tt.want {
			t.Errorf("%s, of the CA at %s (PlainHTTP %v): %v, want %v", tt.url, tt.directory, tt.plain, err, tt.want)
		}
	}
}

// roundTrips is a user's transport that answers from a table by URL.
type roundTrips struct {
	asked   []string
	answers map[string]func(http.ResponseWriter)
}

func (r *roundTrips) RoundTrip(req *http.Request) (*http.Response, error) {
	r.asked = append(r.asked, req.URL.String())
	w := httptest.NewRecorder()
	if answer := r.answers[req.URL.String()]; answer != nil {
		answer(w)
	} else {
		w.WriteHeader(http.StatusNotFound)
	}
	res := w.Result()
	res.Request = req
	return res, nil
}

func redirectTo(target string) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		w.Header().Set("Location", target)
		w.WriteHeader(http.StatusFound)
	}
}

func directoryAt(base string) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		fmt.Fprintf(w, `{"newNonce":"%[1]s/nonce","newAccount":"%[1]s/account","newOrder":"%[1]s/order"}`, base)
	}
}

func TestRedirectsAreRefusedLikeURLs(t *testing.T) {
	for target, why := range map[string]error{
		"http://ca.example/dir2":        nil, // its own text
		"http://127.0.0.1/dir2":         nil,
		"https://me:pw@ca.example/dir2": errUserinfo,
	} {
		trips := &roundTrips{answers: map[string]func(http.ResponseWriter){"https://ca.example/dir": redirectTo(target)}}
		ca := New(Config{DirectoryURL: "https://ca.example/dir", HTTPClient: &http.Client{Transport: trips}})
		_, err := ca.Client(nil, "").Discover(t.Context())
		if redirect, ok := errors.AsType[redirectError](err); !ok || redirect.refused != why || strings.Contains(err.Error(), "pw@") {
			t.Errorf("%s: %v", target, err)
		}
		if len(trips.asked) != 1 {
			t.Errorf("asked %q", trips.asked)
		}
	}
	trips := &roundTrips{answers: map[string]func(http.ResponseWriter){"http://127.0.0.1/dir": redirectTo("http://192.0.2.1/dir")}}
	ca := New(Config{DirectoryURL: "http://127.0.0.1/dir", HTTPClient: &http.Client{Transport: trips}})
	if _, err := ca.Client(nil, "").Discover(t.Context()); err == nil || !strings.Contains(err.Error(), "PlainHTTP") || len(trips.asked) != 1 {
		t.Errorf("%v, asked %q", err, trips.asked)
	}
}

// Another origin is told of once, by whatever way requests come to it, and not
// the directory's own.
func TestOtherOriginsAreToldOnce(t *testing.T) {
	trips := &roundTrips{answers: map[string]func(http.ResponseWriter){
		"https://ca.example/dir":       redirectTo("https://CA.example:443/moved"),
		"https://CA.example:443/moved": redirectTo("https://www.ca.example/dir"),
		"https://www.ca.example/dir":   directoryAt("https://api.ca.example:8443"),
	}}
	var told []string
	ca := New(Config{
		DirectoryURL: "https://ca.example/dir",
		HTTPClient:   &http.Client{Transport: trips},
		OnOrigin:     func(origin string) { told = append(told, origin) },
	})
	for range 3 {
		client := ca.Client(newKey(t), "")
		if _, err := client.Discover(t.Context()); err != nil {
			t.Fatal(err)
		}
		client.Register(t.Context(), new(acme.Account), acme.AcceptTOS)
		ca.Forget()
	}
	if want := []string{"https://www.ca.example", "https://api.ca.example:8443"}; !slices.Equal(told, want) {
		t.Errorf("told of %q, want %q", told, want)
	}
	for i := range 100 {
		ca.origins.note(&url.URL{Scheme: "https", Host: fmt.Sprintf("h%d.example", i)})
	}
	if len(told) != maxOrigins {
		t.Errorf("told of %d origins, want %d at most", len(told), maxOrigins)
	}
}
