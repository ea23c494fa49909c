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

// memoryTransport is a transport that calls a handler in a goroutine instead of using a network. Everything in it
// blocks on channels that were made by the caller, so it may be used within a synctest bubble.
type memoryTransport struct {
	tasks   *tasks          // counts the handlers that run
	ctx     context.Context // of the server; its end ends the handlers
	host    string          // the only host there is; empty means any
	handler http.Handler
}

var _ http.RoundTripper = (*memoryTransport)(nil)

// errDropped is what a client gets when the handler gives up the request without a reply, as a closed connection does.
var errDropped = fmt.Errorf("acmetest: connection closed without a reply: %w", io.ErrUnexpectedEOF)

// RoundTrip calls the handler. It returns as soon as the request's context ends; the handler's context has ended then
// as well.
func (t *memoryTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	if err := t.check(ctx, req); err != nil {
		closeBody(req)
		return nil, err
	}
	serverCtx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(t.ctx, cancel)
	w := newMemoryWriter(req)
	// Ends what blocks on a body that the other side does not read, or write, any more.
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
				<-unblocked // so that the server's Close waits for it
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

// serverRequest makes the client's request r look like one that a server has read.
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
		r.Header.Set("User-Agent", "Go-http-client/1.1") // what the real transport sends then
	}
	r.URL.Scheme, r.URL.Host = "", ""
	return r
}

// memoryWriter is the ResponseWriter of a memoryTransport. A reply is handed over when the handler returns, or with the
// first Flush: then the rest of the body is streamed.
type memoryWriter struct {
	req   *http.Request
	ready chan struct{} // closed when response or err is set

	mu       sync.Mutex // guards what follows against a handler that writes from several goroutines
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

// run calls the handler and delivers what it wrote. A handler that panics, or ends its goroutine as t.FailNow does, drops
// the connection.
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
		w.fail(errDropped) // nothing after the above
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
	return w.pw.Write(p) // blocks until it is read: not under the lock
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

// finish delivers a reply that was not streamed, or ends the body of one that was.
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

// fail ends the exchange without a reply, or in the middle of its body.
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

// deliver hands the reply to RoundTrip. w.mu is held.
func (w *memoryWriter) deliver(body io.ReadCloser, length int64) {
	header := w.header.Clone()
	maps.DeleteFunc(header, func(_ string, values []string) bool { return len(values) == 0 }) // a network carries none
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
