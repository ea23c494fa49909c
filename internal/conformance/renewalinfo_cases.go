package conformance

import (
	"crypto/x509"
	"math/big"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const section41 = "RFC 9773, section 4.1"

// renewalInfoCases are about ARI (RFC 9773). Requests are unsigned GETs.
var renewalInfoCases = []testCase{
	success("renewal information is a window in the certificate's life, and when to ask again", "RFC 9773, section 4.2", 200,
		func(c *Client) Answer {
			leaf := c.issue(c.host("a")).leaf()
			a := c.renewalInfo(certID(leaf))
			start, end := c.window(a)
			c.expect(start.After(leaf.NotBefore) && !end.After(leaf.NotAfter),
				"the window from %v to %v is not within the life from %v to %v", start, end, leaf.NotBefore, leaf.NotAfter)
			seconds, err := strconv.Atoi(a.Header.Get("Retry-After"))
			c.expect(err == nil && seconds > 0, "Retry-After is %q", a.Header.Get("Retry-After"))
			return a
		}),
	success("renewal information of a revoked certificate is a window in the past", "RFC 9773, section 4.2", 200,
		func(c *Client) Answer {
			cert := c.issue(c.host("a"))
			c.must(c.revoke(cert), http.StatusOK)
			a := c.renewalInfo(certID(cert.leaf()))
			_, end := c.window(a)
			c.expect(end.Before(time.Now()), "the window ends at %v", end)
			return a
		}),
	success("renewal information is for anybody", section41, 200,
		func(c *Client) Answer {
			id := certID(c.issue(c.host("a")).leaf())
			return c.other().renewalInfo(id)
		}),
	idRefusal("of one part", func(aki, _ string) string { return aki }),
	idRefusal("of three parts", func(aki, serial string) string { return aki + "." + serial + ".AQ" }),
	idRefusal("without a key identifier", func(_, serial string) string { return "." + serial }),
	idRefusal("without a serial number", func(aki, _ string) string { return aki + "." }),
	idRefusal("with padding", func(aki, serial string) string { return aki + "." + serial + "=" }),
	idRefusal("in standard base64", func(aki, _ string) string { return aki + ".+/+/" }),
	idRefusal("of nothing", func(_, _ string) string { return "" }).
		pebbleSays(404, "malformed", "RFC 9773, section 4.1 names no status: both may."),
	refusal("a certificate's identifier with a needless 00 is malformed", section41, 400, "malformed",
		func(c *Client) Answer {
			leaf := c.issue(c.host("a")).leaf()
			return c.renewalInfo(B64(leaf.AuthorityKeyId) + "." + B64(append([]byte{0}, serialDER(leaf.SerialNumber)...)))
		}).
		pebbleSays(200, "", "RFC 9773, section 4.1: it is the serial number's DER, which has only one form, so acmetest is "+
			"right."),
	refusal("an identifier of another CA is 404", section41, 404, "malformed",
		func(c *Client) Answer { return c.renewalInfo("aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE") }).
		pebbleSays(400, "malformed", "RFC 9773, section 4.1 names no status: both may."),
	refusal("an identifier of an unknown certificate is 404", section41, 404, "malformed",
		func(c *Client) Answer {
			return c.renewalInfo(B64(c.issue(c.host("a")).leaf().AuthorityKeyId) + ".B2VDIQ")
		}),
	refusal("POST of renewal information is 405", "RFC 8555, section 6.7", 405, "malformed",
		func(c *Client) Answer { return c.get(c.url("renewalInfo") + "/" + certID(c.issue(c.host("a")).leaf())) }).
		pebbleSays(500, "serverInternal", "RFC 9773, section 4.1 has GET alone, which is no internal error: acmetest is right."),
}

// certID returns the identifier of a certificate.
func certID(leaf *x509.Certificate) string {
	return B64(leaf.AuthorityKeyId) + "." + B64(serialDER(leaf.SerialNumber))
}

// serialDER returns the content of a serial number's DER.
func serialDER(serial *big.Int) []byte {
	b := serial.Bytes()
	if serial.BitLen()%8 == 0 {
		b = append([]byte{0}, b...)
	}
	return b
}

// renewalInfo requests renewal information.
func (c *Client) renewalInfo(id string) Answer {
	c.t.Helper()
	return c.fetch(c.url("renewalInfo") + "/" + id)
}

// window returns the suggested window.
func (c *Client) window(a Answer) (start, end time.Time) {
	c.t.Helper()
	window, _ := a.Object["suggestedWindow"].(map[string]any)
	start, startErr := time.Parse(time.RFC3339, text(window, "start"))
	end, endErr := time.Parse(time.RFC3339, text(window, "end"))
	c.expect(startErr == nil && endErr == nil && start.Before(end), "the window is %v", window)
	return start, end
}

// idRefusal is about an invalid identifier.
func idRefusal(what string, change func(aki, serial string) string) testCase {
	return refusal("a certificate's identifier "+what+" is malformed", section41, 400, "malformed",
		func(c *Client) Answer {
			aki, serial, _ := strings.Cut(certID(c.issue(c.host("a")).leaf()), ".")
			return c.renewalInfo(change(aki, serial))
		})
}
