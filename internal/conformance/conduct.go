package conformance

import (
	"mime"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

var base64urlText = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

// The texts of complaints about any reply; deviations of Pebble refer to them.
const (
	lacksNonce      = "the reply to a POST has no nonce"
	lacksIndex      = "the reply has no link to the directory"
	lacksProblem    = "the error has no problem document"
	lacksAlgorithms = "the problem does not list the algorithms"
)

// inspect checks the rules for all replies.
func (c *Client) inspect(method, url string, a Answer) {
	about := " (" + method + " " + url + " answered with " + a.String() + ")"
	nonce := a.Header.Get("Replay-Nonce")
	if method == http.MethodPost {
		// RFC 8555, section 6.5: a MUST for successes, a SHOULD for errors.
		c.expect(nonce != "", "%s%s", lacksNonce, about)
	}
	// Section 6.5.1.
	c.expect(nonce == "" || base64urlText.MatchString(nonce), "the nonce %q is not base64url%s", nonce, about)
	if url != c.ca.Directory {
		// Section 7.1.
		c.expect(slices.Equal(a.links("index"), []string{c.ca.Directory}), "%s%s", lacksIndex, about)
	}
	if value := a.Header.Get("Retry-After"); value != "" {
		_, dateErr := http.ParseTime(value)
		seconds, err := strconv.Atoi(value)
		c.expect(dateErr == nil || err == nil && seconds >= 0, "Retry-After %q is no time%s", value, about)
	}
	mediaType, _, _ := mime.ParseMediaType(a.Header.Get("Content-Type"))
	switch {
	case a.Status >= 400:
		c.inspectProblem(method, mediaType, about, a)
	case len(a.Body) > 0 && a.Object != nil:
		c.expect(mediaType == "application/json", "the content type of JSON is %q%s", mediaType, about)
	}
	// RFC 9110, section 15.3.2; RFC 8555 says so for each resource that is
	// created.
	c.expect(a.Status != http.StatusCreated || a.Header.Get("Location") != "", "201 without Location%s", about)
}

// inspectProblem checks an error's problem document (RFC 8555, section 6.7).
func (c *Client) inspectProblem(method, mediaType, about string, a Answer) {
	if method == http.MethodHead {
		return
	}
	if mediaType != "application/problem+json" {
		c.complain("%s%s", lacksProblem, about)
		return
	}
	status, _ := a.Object["status"].(float64)
	c.expect(int(status) == a.Status, "the problem's status is not that of the reply%s", about)
	c.expect(strings.HasPrefix(a.Text("type"), errorPrefix), "the problem's type is not one of ACME%s", about)
	c.expect(a.Text("detail") != "", "the problem has no detail%s", about)
	c.expect(a.Object["identifier"] == nil, "the problem itself has an identifier, which is for subproblems%s", about)
	switch {
	case a.Status == http.StatusMethodNotAllowed:
		// RFC 9110, section 15.5.6.
		c.expect(a.Header.Get("Allow") != "", "405 without Allow%s", about)
	case a.Problem() == "badNonce":
		c.expect(a.Header.Get("Replay-Nonce") != "", "badNonce without a fresh nonce%s", about)
	case a.Problem() == "badSignatureAlgorithm":
		c.expect(len(a.list("algorithms")) > 0, "%s%s", lacksAlgorithms, about)
	}
}
