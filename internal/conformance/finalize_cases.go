package conformance

import (
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/pem"
	"net"
	"strings"
)

const section74 = "RFC 8555, section 7.4"

// finalizeCases are about CSRs.
var finalizeCases = []testCase{
	success("finalizing an order issues its certificate", section74, 200,
		func(c *Client) Answer {
			o := c.ready(c.host("a"), c.host("b"))
			key := newKey(c.t)
			a := c.finalize(o, c.csr(key, x509.CertificateRequest{}, o.names...))
			c.expect(a.Text("status") == "processing" || a.Text("status") == "valid", "the order is %v", a)
			o.Answer = c.await(o.url, "ready", "processing")
			c.expect(o.Text("status") == "valid" && o.Text("certificate") != "", "the order is %v", o)
			cert := &certificate{o, key, c.parseChain(c.get(o.Text("certificate")))}
			c.expectNames(cert, o.names...)
			c.expect(key.PublicKey.Equal(cert.leaf().PublicKey), "the certificate is for another key")
			return a
		}),
	success("a CSR with an RSA key is fine", section74, 200,
		func(c *Client) Answer {
			cert := c.complete(c.ready(c.host("a")), newRSAKey(c.t, 2048))
			return cert.order.Answer
		}),
	success("a CSR with the names in another order and case is fine", section74, 200,
		func(c *Client) Answer {
			o := c.ready(c.host("a"), c.host("b"))
			return c.finalize(o, c.csr(newKey(c.t), x509.CertificateRequest{}, strings.ToUpper(c.host("b")), c.host("a")))
		}),
	success("a CSR with one of the names as common name too is fine", section74, 200,
		func(c *Client) Answer {
			o := c.ready(c.host("a"))
			return c.finalize(o, c.csr(newKey(c.t), commonName(c.host("a")), c.host("a")))
		}),
	success("a CSR may have its name as common name alone", section74, 200,
		func(c *Client) Answer {
			return c.finalize(c.ready(c.host("a")), c.csr(newKey(c.t), commonName(c.host("a"))))
		}).
		pebbleSays(403, "unauthorized", "RFC 8555, section 7.4: either place will do, so acmetest is right."),
	success("after a bad CSR a good one is taken", section74, 200,
		func(c *Client) Answer {
			o := c.ready(c.host("a"))
			c.finalize(o, c.csr(newKey(c.t), x509.CertificateRequest{}, c.host("b")))
			return c.finalize(o, c.csr(newKey(c.t), x509.CertificateRequest{}, c.host("a")))
		}),

	refusal("a pending order is orderNotReady", section74, 403, "orderNotReady",
		func(c *Client) Answer {
			o := c.order(c.host("a"))
			return c.finalize(o, c.csr(newKey(c.t), x509.CertificateRequest{}, o.names...))
		}),
	refusal("an order that has been finalized is orderNotReady", section74, 403, "orderNotReady",
		func(c *Client) Answer {
			o := c.issue(c.host("a")).order
			return c.finalize(o, c.csr(newKey(c.t), x509.CertificateRequest{}, o.names...))
		}),
	refusal("an order that is invalid is orderNotReady", section74, 403, "orderNotReady",
		func(c *Client) Answer {
			o := c.failed(c.host("a"))
			return c.finalize(o, c.csr(newKey(c.t), x509.CertificateRequest{}, o.names...))
		}),
	refusal("an order whose authorization was deactivated is orderNotReady", "RFC 8555, section 7.5.2", 403, "orderNotReady",
		func(c *Client) Answer {
			o := c.ready(c.host("a"))
			c.must(c.post(o.authorization(), deactivate), 200)
			return c.finalize(o, c.csr(newKey(c.t), x509.CertificateRequest{}, o.names...))
		}),
	refusal("another account's order cannot be finalized", section74, 403, "unauthorized",
		func(c *Client) Answer {
			o := c.stranger().ready(c.host("a"))
			return c.finalize(o, c.csr(newKey(c.t), x509.CertificateRequest{}, o.names...))
		}),

	finalizeRefusal("without a CSR", func(*Client) string { return `{}` }),
	finalizeRefusal("whose CSR is a number", func(*Client) string { return `{"csr":1}` }),
	finalizeRefusal("without a payload", func(*Client) string { return `` }),
	finalizeRefusal("with a CSR in standard base64", func(c *Client) string {
		return `{"csr":"` + base64.StdEncoding.EncodeToString(c.csr(newKey(c.t), x509.CertificateRequest{}, c.host("a"))) + `+/"}`
	}),
	finalizeRefusal("with a padded CSR", func(c *Client) string {
		return `{"csr":"` + B64(c.csr(newKey(c.t), x509.CertificateRequest{}, c.host("a"))) + `="}`
	}),
	csrRefusal("that is none", func(*Client) []byte { return []byte("hello") }).
		pebbleSays(400, "malformed", "RFC 8555, section 7.4 has badCSR for CSRs that cannot be used: acmetest is right."),
	csrRefusal("in PEM", func(c *Client) []byte {
		der := c.csr(newKey(c.t), x509.CertificateRequest{}, c.host("a"))
		return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
	}).pebbleSays(400, "malformed", "RFC 8555, section 7.4 has badCSR for CSRs that cannot be used: acmetest is right."),
	csrRefusal("with something after it", func(c *Client) []byte {
		return append(c.csr(newKey(c.t), x509.CertificateRequest{}, c.host("a")), 0)
	}).pebbleSays(400, "malformed", "RFC 8555, section 7.4 has badCSR for CSRs that cannot be used: acmetest is right."),
	csrRefusal("with a wrong signature", func(c *Client) []byte {
		der := c.csr(newKey(c.t), x509.CertificateRequest{}, c.host("a"))
		other := c.csr(newKey(c.t), x509.CertificateRequest{}, c.host("a"))
		return []byte(strings.Replace(string(der), publicKeyIn(c, der), publicKeyIn(c, other), 1))
	}),
	csrRefusal("for another name", func(c *Client) []byte {
		return c.csr(newKey(c.t), x509.CertificateRequest{}, c.host("b"))
	}).pebbleSays(403, "unauthorized", wrongNames),
	csrRefusal("for one name more", func(c *Client) []byte {
		return c.csr(newKey(c.t), x509.CertificateRequest{}, c.host("a"), c.host("b"))
	}).pebbleSays(403, "unauthorized", wrongNames),
	csrRefusal("for a wildcard instead of the name", func(c *Client) []byte {
		return c.csr(newKey(c.t), x509.CertificateRequest{}, "*."+c.host("a"))
	}).pebbleSays(403, "unauthorized", wrongNames),
	csrRefusal("without names", func(c *Client) []byte { return c.csr(newKey(c.t), x509.CertificateRequest{}) }).
		pebbleSays(403, "unauthorized", wrongNames),
	csrRefusal("for an IP address more", func(c *Client) []byte {
		return c.csr(newKey(c.t), x509.CertificateRequest{IPAddresses: []net.IP{{192, 0, 2, 1}}}, c.host("a"))
	}).pebbleSays(403, "unauthorized", wrongNames),
	csrRefusal("with a common name that was not ordered", func(c *Client) []byte {
		return c.csr(newKey(c.t), commonName(c.host("b")), c.host("a"))
	}).pebbleSays(200, "", "RFC 8555, section 7.4: the CSR must have exactly the order's names, so acmetest is right."),
	csrRefusal("with an email address", func(c *Client) []byte {
		return c.csr(newKey(c.t), x509.CertificateRequest{EmailAddresses: []string{"a@example.com"}}, c.host("a"))
	}).pebbleSays(200, "", "RFC 8555, section 7.4: the CSR must have exactly the order's names, so acmetest is right."),
	csrRefusal("with a registered ID as another name", func(c *Client) []byte {
		return c.csr(newKey(c.t), sans(c, asn1.RawValue{Tag: 2, Bytes: []byte(c.host("a"))}, asn1.RawValue{Tag: 8, Bytes: []byte{42, 3}}))
	}).pebbleSays(200, "", "RFC 8555, section 7.4: the CSR must have exactly the order's names, so acmetest is right."),
	refusal("a CSR with an IP address as its common name only is badCSR", section74, 400, "badCSR",
		func(c *Client) Answer {
			o := c.ready(c.claimAddress())
			return c.finalize(o, c.csr(newKey(c.t), commonName(c.ca.Address)))
		}).pebbleSays(403, "unauthorized", wrongNames),
	refusal("a CSR with an IPv4 address as IPv6 maps it is badCSR", "RFC 5280, section 4.2.1.6", 400, "badCSR",
		func(c *Client) Answer {
			o := c.ready(c.claimAddress())
			address := net.ParseIP(c.ca.Address).To16()
			if strings.Contains(c.ca.Address, ":") { // any other
				address = net.ParseIP("192.0.2.1").To16()
			}
			return c.finalize(o, c.csr(newKey(c.t), sans(c, asn1.RawValue{Tag: 7, Bytes: address})))
		}).pebbleSays(200, "", "RFC 5280, section 4.2.1.6: an IPv4 address has four bytes, so acmetest is right."),
	csrRefusal("with the key of an account", func(c *Client) []byte {
		return c.csr(c.Key, x509.CertificateRequest{}, c.host("a"))
	}),
	csrRefusal("with the key of another account", func(c *Client) []byte {
		return c.csr(c.stranger().Key, x509.CertificateRequest{}, c.host("a"))
	}),
	csrRefusal("with an RSA key of 1024 bits", func(c *Client) []byte {
		return c.csr(newRSAKey(c.t, 1024), x509.CertificateRequest{}, c.host("a"))
	}).pebbleSays(200, "", "RFC 8555, section 6.7: a short key is the example for badCSR, so acmetest is right."),
	csrRefusal("with a key on P-521", func(c *Client) []byte {
		return c.csr(newKeyOn(c.t, elliptic.P521()), x509.CertificateRequest{}, c.host("a"))
	}).pebbleSays(200, "", "RFC 8555, section 7.4: which keys it certifies is the CA's choice. Both may."),
	refusal("a CSR for one name less is badCSR", section74, 400, "badCSR",
		func(c *Client) Answer {
			o := c.ready(c.host("a"), c.host("b"))
			return c.finalize(o, c.csr(newKey(c.t), x509.CertificateRequest{}, c.host("a")))
		}).pebbleSays(403, "unauthorized", wrongNames),
	refusal("a CSR with an IP address as a DNS name is badCSR", "RFC 8738, section 3", 400, "badCSR",
		func(c *Client) Answer {
			o := c.ready(c.claimAddress())
			return c.finalize(o, c.csr(newKey(c.t), x509.CertificateRequest{DNSNames: []string{c.ca.Address}}))
		}).pebbleSays(403, "unauthorized", wrongNames),
}

const wrongNames = "RFC 8555, section 7.4 has badCSR for names that differ from the order's, so acmetest is right."

// finalizeRefusal is about a malformed payload for a ready order.
func finalizeRefusal(what string, payload func(c *Client) string) testCase {
	return refusal("a request to finalize "+what+" is malformed", section74, 400, "malformed",
		func(c *Client) Answer {
			o := c.ready(c.host("a"))
			return c.staysReady(o, c.post(o.Text("finalize"), payload(c)))
		})
}

// csrRefusal is about the CSR for a ready order, which stays ready.
func csrRefusal(what string, csr func(c *Client) []byte) testCase {
	return refusal("a CSR "+what+" is badCSR", section74, 400, "badCSR",
		func(c *Client) Answer {
			o := c.ready(c.host("a"))
			return c.staysReady(o, c.finalize(o, csr(c)))
		})
}

// staysReady checks that an order is still ready after a refused request.
func (c *Client) staysReady(o *order, a Answer) Answer {
	c.t.Helper()
	if a.Status >= 400 {
		c.refresh(o)
		c.expect(o.Text("status") == "ready", "after a bad request the order is %s and not ready", o.Text("status"))
	}
	return a
}

// sans is a CSR with these names, of any kind (RFC 5280, section 4.2.1.6).
func sans(c *Client, names ...asn1.RawValue) x509.CertificateRequest {
	c.t.Helper()
	for i := range names {
		names[i].Class = asn1.ClassContextSpecific
	}
	value, err := asn1.Marshal(names)
	if err != nil {
		c.t.Fatal(err)
	}
	return x509.CertificateRequest{ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: value}}}
}

func commonName(name string) x509.CertificateRequest {
	return x509.CertificateRequest{Subject: pkix.Name{CommonName: name}}
}

// publicKeyIn returns the bytes of the public key in a CSR.
func publicKeyIn(c *Client, der []byte) string {
	c.t.Helper()
	request, err := x509.ParseCertificateRequest(der)
	if err != nil {
		c.t.Fatal(err)
	}
	return string(request.RawSubjectPublicKeyInfo)
}
