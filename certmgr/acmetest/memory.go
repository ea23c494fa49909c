package acmetest

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strconv"
	"sync"
)

// memoryTransport is a transport that calls a handler in a goroutine instead of
// using a network. It blocks only on channels made by the caller, so it works
// in a synctest bubble.
type memoryTransport struct {
	tasks   *tasks          // counts the running handlers
	ctx     context.Context // ends with the server and ends the handlers
	host    string          // the only reachable host; empty means any
	handler http.Handler
}

var _ http.RoundTripper = (*memoryTransport)(nil)

// errDropped is the client's error when the handler ends the request without a
// reply, as for a closed connection.
var errDropped = fmt.Errorf("acmetest: connection closed without a reply: %w", io.ErrUnexpectedEOF)

// RoundTrip calls the handler. It returns as soon as the request's context
// ends, which also ends the handler's context.
func (t *memoryTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	if err := t.check(ctx, req); err != nil {
		closeBody(req)
		return nil, err
	}
	serverCtx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(t.ctx, cancel)
	w := newMemoryWriter(req)
	// Unblocks reads and writes of a body that the other side has abandoned.
	unblocked := make(chan struct{})
	unblock := context.AfterFunc(serverCtx, func() {
		defer close(unblocked)
		w.pw.CloseWithError(cmp.Or(ctx.Err(), errDropped))
		closeBody(req)
	})
	started := t.tasks.Go(func() {
		defer cancel()
		defer stop()
		defer func() {
			if !unblock() {
				<-unblocked // so Server.Close waits for it
			}
		}()
		defer closeBody(req)
		w.run(t.handler, serverRequest(req.Clone(serverCtx)))
	})
	if !started {
		unblock()
		stop()
		cancel()
		closeBody(req)
		return nil, fmt.Errorf("acmetest: the server is closed: %w", errDropped)
	}
	select {
	case <-w.ready:
		return w.response, w.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (t *memoryTransport) check(ctx context.Context, req *http.Request) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if t.host != "" && req.URL.Host != t.host {
		return fmt.Errorf("acmetest: no such host %q: this client reaches %s only", req.URL.Host, t.host)
	}
	return nil
}

func closeBody(req *http.Request) {
	if req.Body != nil {
		_ = req.Body.Close()
	}
}

// serverRequest turns the client's request r into one as read by a server.
func serverRequest(r *http.Request) *http.Request {
	r.RequestURI = r.URL.RequestURI()
	r.RemoteAddr = "127.0.0.1:1"
	r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/1.1", 1, 1
	if r.Host == "" {
		r.Host = r.URL.Host
	}
	if r.URL.Scheme == "https" {
		r.TLS = &tls.ConnectionState{Version: tls.VersionTLS13, HandshakeComplete: true, ServerName: r.URL.Hostname()}
	}
	if r.Body == nil {
		r.Body = http.NoBody
	}
	if r.Header == nil {
		r.Header = http.Header{}
	}
	if _, ok := r.Header["User-Agent"]; !ok {
		r.Header.Set("User-Agent", "Go-http-client/1.1") // as the real transport sends
	}
	r.URL.Scheme, r.URL.Host = "", ""
	return r
}

// memoryWriter is the ResponseWriter of a memoryTransport. The reply is
// delivered when the handler returns, or at the first Flush; then the rest of
// the body is streamed.
type memoryWriter struct {
	req   *http.Request
	ready chan struct{} // closed when response or err is set

	mu       sync.Mutex // guards the fields below: a handler may write from several goroutines
	header   http.Header
	status   int // 0 before WriteHeader
	buf      bytes.Buffer
	flushed  bool
	response *http.Response
	err      error

	pr *io.PipeReader
	pw *io.PipeWriter
}

func newMemoryWriter(req *http.Request) *memoryWriter {
	w := &memoryWriter{req: req, ready: make(chan struct{}), header: http.Header{}}
	w.pr, w.pw = io.Pipe()
	return w
}

// run calls the handler and delivers its reply. A handler that panics, or ends
// its goroutine as t.FailNow does, drops the connection.
func (w *memoryWriter) run(handler http.Handler, r *http.Request) {
	returned := false
	defer func() {
		v := recover()
		if returned {
			w.finish()
			return
		}
		if err, ok := v.(error); v != nil && (!ok || !errors.Is(err, http.ErrAbortHandler)) {
			w.fail(fmt.Errorf("acmetest: the handler panicked: %v: %w", v, errDropped))
		}
		w.fail(errDropped) // no effect after the above
	}()
	handler.ServeHTTP(w, r)
	returned = true
}

// Header implements http.ResponseWriter.
func (w *memoryWriter) Header() http.Header { return w.header }

// WriteHeader implements http.ResponseWriter.
func (w *memoryWriter) WriteHeader(status int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.writeHeader(status)
}

func (w *memoryWriter) writeHeader(status int) {
	if w.status == 0 && status >= 200 {
		w.status = status
	}
}

// Write implements http.ResponseWriter.
func (w *memoryWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	w.writeHeader(http.StatusOK)
	if !w.flushed {
		defer w.mu.Unlock()
		return w.buf.Write(p)
	}
	w.mu.Unlock()
	return w.pw.Write(p) // blocks until it is read, so not under the lock
}

// Flush implements http.Flusher.
func (w *memoryWriter) Flush() {
	w.mu.Lock()
	w.writeHeader(http.StatusOK)
	first := !w.flushed
	w.flushed = true
	head := bytes.Clone(w.buf.Bytes())
	if first {
		w.deliver(w.pr, -1)
	}
	w.mu.Unlock()
	if first && len(head) > 0 {
		_, _ = w.pw.Write(head)
	}
}

// finish delivers an unstreamed reply, or ends the body of a streamed one.
func (w *memoryWriter) finish() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.writeHeader(http.StatusOK)
	if w.flushed {
		_ = w.pw.Close()
		return
	}
	n := w.buf.Len()
	if w.req.Method == http.MethodHead {
		w.buf.Reset()
	}
	w.deliver(io.NopCloser(&w.buf), int64(n))
}

// fail ends the exchange without a reply, or within its body.
func (w *memoryWriter) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.flushed {
		_ = w.pw.CloseWithError(err)
		return
	}
	if w.err == nil {
		w.err = err
		close(w.ready)
	}
}

// deliver passes the reply to RoundTrip. w.mu is held.
func (w *memoryWriter) deliver(body io.ReadCloser, length int64) {
	header := w.header.Clone()
	maps.DeleteFunc(header, func(_ string, values []string) bool { return len(values) == 0 }) // not sent over a network
	if length >= 0 && header.Get("Content-Length") == "" && w.status != http.StatusNoContent {
		header.Set("Content-Length", strconv.FormatInt(length, 10))
	}
	w.response = &http.Response{
		Status:        strconv.Itoa(w.status) + " " + http.StatusText(w.status),
		StatusCode:    w.status,
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        header,
		Body:          body,
		ContentLength: length,
		Request:       w.req,
	}
	close(w.ready)
}
