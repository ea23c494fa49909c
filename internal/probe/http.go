package probe

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/nostall/nostall/internal/challenge"
	"github.com/nostall/nostall/internal/hosts"
	"github.com/nostall/nostall/internal/text"
)

const (
	maxRedirects  = 5
	maxReply      = 32 << 10 // head and body, in bytes
	maxServerText = 32
	maxOwnText    = 96
)

// askHTTP fetches an http-01 response as a CA does (RFC 8555, section 8.3): it
// follows redirects to the standard ports, but not to other hosts, since the
// name's owner must not choose where this machine connects.
func askHTTP(ctx context.Context, c connector, host string, p *probe) reply {
	at := &url.URL{Scheme: "http", Host: urlHost(host), Path: challenge.Path + p.token}
	for range maxRedirects + 1 {
		r, location := fetchAnswer(ctx, c, host, at, p.want)
		if location == "" {
			return r
		}
		next, err := at.Parse(location)
		if err != nil {
			return reply{text: "redirects to an invalid URL", err: err}
		}
		if r, ok := refuseRedirect(host, next); ok {
			return r
		}
		at = next
	}
	return reply{text: "redirects without end"}
}

// urlHost returns a host as URLs and the Host header have it.
func urlHost(host string) string {
	if strings.IndexByte(host, ':') >= 0 {
		return "[" + host + "]"
	}
	return host
}

// refuseRedirect reports whether a redirect is not followed, and the reply to
// record.
func refuseRedirect(host string, to *url.URL) (reply, bool) {
	text := fmt.Sprintf("redirects to %q", text.OneLine(to.Redacted(), maxOwnText))
	switch port := to.Port(); {
	case to.Scheme == "http" && (port == "" || port == "80"), to.Scheme == "https" && (port == "" || port == "443"):
	default:
		return reply{text: text + ", CAs follow http on port 80 and https on port 443 only"}, true
	}
	name, err := hosts.NormalizeAny(to.Hostname())
	switch {
	case err != nil, name != host && hosts.IsAddress(name): // CAs follow redirects of names to names only
		return reply{text: text, err: err}, true
	case name != host:
		return reply{outcome: unknown, text: text + ", not followed"}, true // the CA does
	}
	return reply{}, false
}

// fetchAnswer makes one request, on a new connection, and evaluates the
// response. location is set if that is a redirect.
func fetchAnswer(ctx context.Context, c connector, host string, at *url.URL, want []byte) (r reply, location string) {
	port := uint16(80)
	if at.Scheme == "https" {
		port = 443
	}
	conn, end, err := c.connect(ctx, port)
	if err != nil {
		return connectFailed(err), ""
	}
	defer end()
	if at.Scheme == "https" {
		client := tls.Client(conn, &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12, InsecureSkipVerify: true}) // as CAs do
		if err := client.Handshake(); err != nil {
			return reply{text: "redirects to https, where " + tlsFailure(err), err: err}, ""
		}
		conn = client
	}
	res, err := exchangeHTTP(ctx, conn, host, at)
	if err != nil {
		r = connectFailed(err)
		if strings.Contains(err.Error(), "malformed ") { // as net/http and net/textproto say
			r.text = "does not speak HTTP"
		}
		return r, ""
	}
	if to := res.Header.Get("Location"); to != "" && res.StatusCode >= 300 && res.StatusCode <= 399 {
		return reply{}, to
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, int64(len(want))+maxOwnText))
	if res.StatusCode == http.StatusOK && err == nil && bytes.Equal(bytes.TrimRight(body, " \t\r\n"), want) {
		return reply{outcome: right}, ""
	}
	return reply{text: describeReply(res, body), err: err}, ""
}

// exchangeHTTP sends a request and reads the response's status line and header.
func exchangeHTTP(ctx context.Context, conn net.Conn, host string, at *url.URL) (*http.Response, error) {
	req := (&http.Request{
		Method:     http.MethodGet,
		URL:        at,
		Host:       urlHost(host),
		ProtoMajor: 1,
		ProtoMinor: 1,
		Close:      true,
		Header:     http.Header{"User-Agent": {"nostall-preflight"}, "Accept": {"*/*"}},
	}).WithContext(ctx)
	if err := req.Write(conn); err != nil {
		return nil, err
	}
	reader := bufio.NewReader(io.LimitReader(conn, maxReply))
	for {
		res, err := http.ReadResponse(reader, req)
		if err != nil {
			return nil, err
		}
		if res.StatusCode >= http.StatusOK || res.StatusCode == http.StatusSwitchingProtocols {
			return res, nil
		}
	}
}

// describeReply describes a response. A Manager's HTTPHandler is recognised by
// its text.
func describeReply(res *http.Response, body []byte) string {
	said := fmt.Sprintf("status %d", res.StatusCode)
	if res.StatusCode == http.StatusOK {
		said += " with another answer"
	}
	if server := res.Header.Get("Server"); server != "" {
		said += fmt.Sprintf(` from "%s"`, text.OneLine(server, maxServerText))
	}
	if line, _, _ := bytes.Cut(body, []byte("\n")); bytes.HasPrefix(line, []byte("certmgr: ")) {
		said += ": " + text.OneLine(string(line), maxOwnText) + hintFor(string(line))
	}
	return said
}

// hintFor returns a possible cause of a Manager's refusal.
func hintFor(text string) string {
	if text == challenge.TextNotAllowed {
		return " (does a proxy change the Host?)"
	}
	return ""
}
