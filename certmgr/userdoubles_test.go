package certmgr_test

import (
	"context"
	"crypto"
	"io"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/nostall/nostall/certmgr/cache"
)

// userError is an error of a user, all of whose methods are watched.
type userError struct {
	u     *userCode
	what  string
	cause error
	late  bool
}

func (e *userError) Error() string { e.u.enter(e.what + ".Error"); return e.what + " failed" }
func (e *userError) Unwrap() error { e.u.enter(e.what + ".Unwrap"); return e.cause }
func (e *userError) Is(error) bool { e.u.enter(e.what + ".Is"); return false }
func (e *userError) As(any) bool   { e.u.enter(e.what + ".As"); return false }
func (e *userError) Timeout() bool { e.u.enter(e.what + ".Timeout"); return e.late }

// fail returns a user's error that wraps cause.
func (u *userCode) fail(what string, cause error) error {
	return &userError{u: u, what: "the error of " + what, cause: cause}
}

// userContext is a context with methods of a user's.
type userContext struct {
	context.Context
	u *userCode
}

func (c userContext) Done() <-chan struct{} { c.u.enter("Context.Done"); return c.Context.Done() }
func (c userContext) Err() error            { c.u.enter("Context.Err"); return c.Context.Err() }
func (c userContext) Value(key any) any     { c.u.enter("Context.Value"); return c.Context.Value(key) }
func (c userContext) Deadline() (time.Time, bool) {
	c.u.enter("Context.Deadline")
	return c.Context.Deadline()
}

// userCache is a cache whose operations fail as told.
type userCache struct {
	cache.Memory
	u    *userCode
	fail func(op, key string) error
}

func (c *userCache) Get(ctx context.Context, key string) ([]byte, error) {
	c.u.enter("Cache.Get")
	if err := c.fail("Get", key); err != nil {
		return nil, err
	}
	return c.Memory.Get(ctx, key)
}

func (c *userCache) Put(ctx context.Context, key string, data []byte) error {
	c.u.enter("Cache.Put")
	if err := c.fail("Put", key); err != nil {
		return err
	}
	return c.Memory.Put(ctx, key, data)
}

func (c *userCache) Delete(ctx context.Context, key string) error {
	c.u.enter("Cache.Delete")
	if err := c.fail("Delete", key); err != nil {
		return err
	}
	return c.Memory.Delete(ctx, key)
}

// userTransport is a transport that fails as told.
type userTransport struct {
	http.RoundTripper
	u    *userCode
	fail func(path string) error
}

func (t userTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	t.u.enter("RoundTrip")
	if err := t.fail(r.URL.Path); err != nil {
		return nil, err
	}
	resp, err := t.RoundTripper.RoundTrip(r)
	if err == nil {
		resp.Body = userBody{resp.Body, t.u}
	}
	return resp, err
}

type userBody struct {
	io.ReadCloser
	u *userCode
}

func (b userBody) Read(p []byte) (int, error) { b.u.enter("Body.Read"); return b.ReadCloser.Read(p) }
func (b userBody) Close() error               { b.u.enter("Body.Close"); return b.ReadCloser.Close() }

type userSigner struct {
	crypto.Signer
	u *userCode
}

func (s userSigner) Public() crypto.PublicKey { s.u.enter("Signer.Public"); return s.Signer.Public() }
func (s userSigner) Sign(r io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	s.u.enter("Signer.Sign")
	return s.Signer.Sign(r, digest, opts)
}

type userResolver struct{ u *userCode }

func (r userResolver) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	r.u.enter("LookupNetIP")
	return []netip.Addr{netip.MustParseAddr("192.0.2.1")}, nil
}

// userConn is a connection of a visitor's.
type userConn struct {
	net.Conn
	u *userCode
}

func (c userConn) RemoteAddr() net.Addr { c.u.enter("RemoteAddr"); return c }
func (c userConn) Network() string      { return "tcp" }
func (c userConn) String() string       { c.u.enter("Addr.String"); return "192.0.2.7:4711" }
