package askpolicy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/nostall/nostall/certmgr"
)

const (
	// maxReply is how much of a body is read, so that the connection can be used
	// again, and maxHeader how long a header may be.
	maxReply  = 4 << 10
	maxHeader = 16 << 10

	maxConns     = 64 // to the endpoint
	maxIdleConns = 8
	idleFor      = 30 * time.Second
)

// setClient sets the client, which never follows a redirect: a copy of the
// given one, or one of the Policy's own.
func (p *Policy) setClient(given *http.Client) {
	p.client = new(http.Client)
	if given != nil {
		*p.client = *given
	} else {
		p.own = &http.Transport{
			DialContext:            (&net.Dialer{Timeout: p.timeout}).DialContext,
			ForceAttemptHTTP2:      true,
			MaxConnsPerHost:        maxConns,
			MaxIdleConns:           maxIdleConns,
			MaxIdleConnsPerHost:    maxIdleConns,
			IdleConnTimeout:        idleFor,
			TLSHandshakeTimeout:    p.timeout,
			MaxResponseHeaderBytes: maxHeader,
			DisableCompression:     true,
		}
		p.client.Transport = p.own
	}
	p.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
}

// answer is the error of an endpoint that answered, but not with a yes.
type answer struct {
	kind error // certmgr.ErrHostNotAllowed or certmgr.ErrPolicy
	text string
}

func (a *answer) Error() string { return a.kind.Error() + ": " + a.text }
func (a *answer) Unwrap() error { return a.kind }

// ask asks the endpoint about a host.
func (p *Policy) ask(ctx context.Context, host string) error {
	u := p.endpoint
	query := u.Query()
	query.Set("domain", host)
	u.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return withoutURL(err)
	}
	req.Header.Set("User-Agent", "nostall-askpolicy")
	resp, err := p.client.Do(req)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		return withoutURL(err)
	}
	io.CopyN(io.Discard, resp.Body, maxReply)
	resp.Body.Close()
	switch code := resp.StatusCode; {
	case code >= 200 && code <= 299:
		p.noteYes(host)
		return nil
	case isNoAnswer(code):
		return &answer{certmgr.ErrPolicy, fmt.Sprintf("%q: the endpoint %s answered with status %d, which is neither yes nor no%s",
			host, p.shown, code, whatToDo(code))}
	default:
		p.forget(host)
		return &answer{certmgr.ErrHostNotAllowed, fmt.Sprintf("%q: the endpoint %s answered with status %d", host, p.shown, code)}
	}
}

// isNoAnswer reports whether a status says that the endpoint could not decide.
func isNoAnswer(code int) bool {
	switch code {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	}
	return code < 400 || code >= 500
}

// whatToDo says what to do about a status.
func whatToDo(code int) string {
	if code >= 300 && code <= 399 {
		return "; redirects are not followed: set the URL to which it leads"
	}
	return "; look at the endpoint's log"
}

// undecided returns the error of a question without an answer.
func (p *Policy) undecided(host string, cause error) error {
	return fmt.Errorf("%w: %q: asking the endpoint %s: %w", certmgr.ErrPolicy, host, p.shown, cause)
}

// withoutURL removes the URL from an error of package http: its query may hold
// a secret.
func withoutURL(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}
