package conformance

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"mime"
	"slices"
	"time"
)

// certificateCases are about downloads.
var certificateCases = []testCase{
	success("a certificate is a chain in PEM that leads to the root", "RFC 8555, sections 7.4.2 and 9.1", 200,
		func(c *Client) Answer {
			cert := c.issue(c.host("a"))
			a := c.get(cert.url())
			mediaType, _, _ := mime.ParseMediaType(a.Header.Get("Content-Type"))
			c.expect(mediaType == "application/pem-certificate-chain", "the content type is %q", mediaType)
			c.expectPEM(a)
			c.expectChain(cert.chain, c.host("a"))
			return a
		}),
	success("a certificate never changes", "RFC 8555, section 7.4.2", 200,
		func(c *Client) Answer {
			cert := c.issue(c.host("a"))
			first, second := c.get(cert.url()), c.get(cert.url())
			c.expect(bytes.Equal(first.Body, second.Body), "the second download is different: %s and %s", first.Body, second.Body)
			return second
		}),
	success("each certificate has its own serial number and URL", "RFC 5280, section 4.1.2.2", 200,
		func(c *Client) Answer {
			a, b := c.issue(c.host("a")), c.issue(c.host("a"))
			c.expect(a.leaf().SerialNumber.Cmp(b.leaf().SerialNumber) != 0, "both have %v", a.leaf().SerialNumber)
			c.expect(a.url() != b.url(), "both are at %s", a.url())
			return b.order.Answer
		}),
	success("an alternate chain is for the same certificate and another root", "RFC 8555, section 7.4.2", 200,
		func(c *Client) Answer {
			cert := c.issue(c.host("a"))
			a := c.get(cert.url())
			alternates := a.links("alternate")
			c.expect(len(alternates) > 0, "there is no alternate: %v", a.Header.Values("Link"))
			for _, u := range alternates {
				other := c.must(c.get(u), 200)
				c.expectPEM(other)
				chain := c.parseChain(other)
				c.expect(chain[0].Equal(cert.leaf()), "%s is another certificate", u)
				c.expectLinked(chain)
				c.expect(!chain[len(chain)-1].Equal(cert.chain[len(cert.chain)-1]), "%s leads to the same root", u)
				c.expect(!slices.Contains(other.links("alternate"), u), "%s is an alternate of itself", u)
			}
			return a
		}),
	refusal("an alternate chain that does not exist is 404", "RFC 9110, section 15.5.5", 404, "malformed",
		func(c *Client) Answer {
			alternates := c.get(c.issue(c.host("a")).url()).links("alternate")
			return c.get(missing(alternates[len(alternates)-1]))
		}).
		pebbleSays(404, "", noProblem).
		pebbleBreaks("", lacksProblem),
	refusal("another account cannot read an alternate chain", "RFC 8555, section 6.3", 403, "unauthorized",
		func(c *Client) Answer {
			u := c.issue(c.host("a")).url()
			return c.stranger().get(c.get(u).links("alternate")[0])
		}),
	refusal("a deactivated account cannot read its certificate", "RFC 8555, section 7.3.6", 401, "unauthorized",
		func(c *Client) Answer {
			cert := c.issue(c.host("a"))
			c.must(c.post(c.Account, deactivate), 200)
			return c.get(cert.url())
		}).
		pebbleSays(403, "unauthorized", "RFC 8555, section 7.3.6: it must be 401, so acmetest is right."),
}

// expectNames complains unless a certificate is for exactly these names.
func (c *Client) expectNames(cert *certificate, want ...string) {
	c.t.Helper()
	got := slices.Clone(cert.leaf().DNSNames)
	for _, ip := range cert.leaf().IPAddresses {
		got = append(got, ip.String())
	}
	slices.Sort(got)
	want = slices.Clone(want)
	slices.Sort(want)
	c.expect(slices.Equal(got, want), "the certificate is for %v and not for %v", got, want)
}

// expectPEM complains about text between or after certificates (RFC 8555,
// section 9.1).
func (c *Client) expectPEM(a Answer) {
	var want []byte
	for rest := a.Body; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		c.expect(block.Type == "CERTIFICATE", "a block is of type %q", block.Type)
		want = append(want, pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes})...)
	}
	c.expect(bytes.Equal(a.Body, want), "the chain is not strictly PEM: %q", a.Body)
}

// expectLinked complains unless each certificate of a chain certifies the one
// before it.
func (c *Client) expectLinked(chain []*x509.Certificate) {
	for i := 1; i < len(chain); i++ {
		err := chain[i-1].CheckSignatureFrom(chain[i])
		c.expect(err == nil, "certificate %d of the chain does not certify the one before it: %v", i, err)
	}
}

// expectChain complains unless a chain leads from a leaf for the name to the
// CA's roots.
func (c *Client) expectChain(chain []*x509.Certificate, name string) {
	c.expect(len(chain) > 1, "the chain has %d certificates", len(chain))
	c.expectLinked(chain)
	pool := x509.NewCertPool()
	for _, cert := range chain[1:] {
		pool.AddCert(cert)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{
		DNSName: name, Roots: c.ca.Roots, Intermediates: pool, CurrentTime: time.Now(),
	})
	c.expect(err == nil, "the certificate cannot be verified: %v", err)
}

// issueForAddress obtains a certificate for the CA's IP address, validated by
// the given challenge type.
func (c *Client) issueForAddress(typ string) *certificate {
	c.t.Helper()
	name := c.claimAddress()
	o := c.order(name)
	challenge := c.challenge(o.authorization(), typ)
	if typ == "tls-alpn-01" {
		c.serveTLS(name, c.validationCertificate(text(challenge, "token"), name), "acme-tls/1")
	} else {
		c.serve(name)
	}
	if a := c.accept(text(challenge, "url")); a.Text("status") != "valid" {
		c.t.Fatalf("the validation of %s: %v", name, a)
	}
	c.refresh(o)
	return c.complete(o, newKey(c.t))
}
