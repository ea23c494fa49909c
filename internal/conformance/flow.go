package conformance

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"
)

// host returns a DNS name that no other case uses.
func (c *Client) host(label string) string {
	return fmt.Sprintf("%s.case%d.example.com", label, c.number)
}

// register creates the account.
func (c *Client) register() {
	c.t.Helper()
	a := c.must(c.newAccount(`{"termsOfServiceAgreed":true}`), http.StatusCreated)
	c.Account = a.Header.Get("Location")
}

// newAccount sends a request for an account, signed with the key.
func (c *Client) newAccount(payload string) Answer {
	c.t.Helper()
	return c.Do(Request{URL: c.url("newAccount"), Payload: payload, Header: c.byKey()})
}

// byKey replaces the key identifier in a header with the key.
func (c *Client) byKey() map[string]any {
	c.t.Helper()
	return map[string]any{"kid": nil, "jwk": JWK(c.t, c.Key.Public())}
}

// claimAddress returns the CA's IP address, which no other case uses until this
// one ends.
func (c *Client) claimAddress() string {
	c.ca.address.Lock()
	c.t.Cleanup(c.ca.address.Unlock)
	return c.ca.Address
}

// stranger returns another client, with its own account.
func (c *Client) stranger() *Client {
	c.t.Helper()
	o := c.other()
	o.register()
	return o
}

// identifiers returns the identifiers of DNS names and IP addresses in JSON
// form.
func identifiers(names ...string) []map[string]string {
	list := []map[string]string{}
	for _, name := range names {
		typ := "dns"
		if _, err := netip.ParseAddr(name); err == nil {
			typ = "ip"
		}
		list = append(list, map[string]string{"type": typ, "value": name})
	}
	return list
}

// order is an order with the last answer that showed it.
type order struct {
	Answer
	url   string
	names []string
}

// newOrder sends a request for an order with additional members, given as pairs
// of name and value.
func (c *Client) newOrder(names []string, more ...any) Answer {
	c.t.Helper()
	object := map[string]any{"identifiers": identifiers(names...)}
	addMembers(object, more)
	return c.post(c.url("newOrder"), string(MustJSON(c.t, object)))
}

// addMembers adds members to an object, given as pairs of name and value.
func addMembers(object map[string]any, pairs []any) {
	for i := 0; i < len(pairs); i += 2 {
		object[pairs[i].(string)] = pairs[i+1]
	}
}

// order creates an order.
func (c *Client) order(names ...string) *order {
	c.t.Helper()
	return c.orderWith(names)
}

// orderWith creates an order with additional members.
func (c *Client) orderWith(names []string, more ...any) *order {
	c.t.Helper()
	a := c.must(c.newOrder(names, more...), http.StatusCreated)
	return &order{a, a.Header.Get("Location"), names}
}

// authorization returns the URL of the order's first authorization.
func (o *order) authorization() string {
	if list := o.list("authorizations"); len(list) > 0 {
		return list[0]
	}
	return ""
}

// refresh reads the order again.
func (c *Client) refresh(o *order) {
	c.t.Helper()
	o.Answer = c.must(c.get(o.url), http.StatusOK)
}

// challenge returns an authorization's challenge of a type.
func (c *Client) challenge(authorization, typ string) map[string]any {
	c.t.Helper()
	a := c.must(c.get(authorization), http.StatusOK)
	for _, challenge := range a.objects("challenges") {
		if challenge["type"] == typ {
			return challenge
		}
	}
	c.t.Fatalf("the authorization offers no %s: %v", typ, a)
	return nil
}

// text returns a member of an object that is a string, or "".
func text(object map[string]any, name string) string {
	s, _ := object[name].(string)
	return s
}

// pollInterval is short, since nothing that the CA does here takes long.
// maxPolls bounds a wait to some ten seconds.
const (
	pollInterval = 2 * time.Millisecond
	maxPolls     = 5000
)

// await reads a resource until it has none of these statuses.
func (c *Client) await(url string, unfinished ...string) Answer {
	c.t.Helper()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	var a Answer
	for range maxPolls {
		a = c.must(c.get(url), http.StatusOK)
		if !strings.Contains(" "+strings.Join(unfinished, " ")+" ", " "+a.Text("status")+" ") {
			return a
		}
		<-tick.C
	}
	c.t.Fatalf("%s does not get on: %v", url, a)
	return a
}

// accept accepts a challenge and waits for its result.
func (c *Client) accept(url string) Answer {
	c.t.Helper()
	c.must(c.post(url, "{}"), http.StatusOK)
	// Read the challenge, not the authorization: when Pebble shows a decided
	// authorization, it does not unlock the other challenges, and a later
	// request to one of them hangs.
	return c.await(url, "pending", "processing")
}

// validate proves control of a name to one authorization: by dns-01 for a
// wildcard and by http-01 otherwise.
func (c *Client) validate(authorization, name string) {
	c.t.Helper()
	typ := "http-01"
	base, wildcard := strings.CutPrefix(name, "*.")
	if wildcard {
		typ = "dns-01"
	}
	challenge := c.challenge(authorization, typ)
	if wildcard {
		c.ca.AddTXT("_acme-challenge."+base, c.digest(text(challenge, "token")))
	} else {
		c.serve(name)
	}
	if a := c.accept(text(challenge, "url")); a.Text("status") != "valid" {
		c.t.Fatalf("the validation of %s: %v", name, a)
	}
}

// nameOf returns the name of an authorization.
func (c *Client) nameOf(a Answer) string {
	identifier, _ := a.Object["identifier"].(map[string]any)
	name := text(identifier, "value")
	if a.Object["wildcard"] == true {
		return "*." + name
	}
	return name
}

// authorize proves control of all names of an order. An authorization may
// already be valid.
func (c *Client) authorize(o *order) {
	c.t.Helper()
	for _, u := range o.list("authorizations") {
		if a := c.must(c.get(u), http.StatusOK); a.Text("status") != "valid" {
			c.validate(u, c.nameOf(a))
		}
	}
	c.refresh(o)
	if o.Text("status") != "ready" {
		c.t.Fatalf("the order is not ready: %v", o)
	}
}

// ready creates an order and makes it ready.
func (c *Client) ready(names ...string) *order {
	c.t.Helper()
	o := c.order(names...)
	c.authorize(o)
	return o
}

// csr returns a certificate request for names, in DER.
func (c *Client) csr(key crypto.Signer, request x509.CertificateRequest, names ...string) []byte {
	c.t.Helper()
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			request.IPAddresses = append(request.IPAddresses, ip)
		} else {
			request.DNSNames = append(request.DNSNames, name)
		}
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &request, key)
	if err != nil {
		c.t.Fatal(err)
	}
	return der
}

// finalize sends a request to finalize an order.
func (c *Client) finalize(o *order, csr []byte) Answer {
	c.t.Helper()
	return c.post(o.Text("finalize"), `{"csr":"`+B64(csr)+`"}`)
}

// certificate is an issued certificate.
type certificate struct {
	order *order
	key   crypto.Signer
	chain []*x509.Certificate
}

func (cert *certificate) leaf() *x509.Certificate { return cert.chain[0] }

// url is the download URL of the certificate.
func (cert *certificate) url() string { return cert.order.Text("certificate") }

// complete finalizes a ready order and downloads the certificate.
func (c *Client) complete(o *order, key crypto.Signer) *certificate {
	c.t.Helper()
	c.must(c.finalize(o, c.csr(key, x509.CertificateRequest{}, o.names...)), http.StatusOK)
	o.Answer = c.await(o.url, "ready", "processing")
	if o.Text("status") != "valid" {
		c.t.Fatalf("the order is not valid: %v", o)
	}
	a := c.must(c.get(o.Text("certificate")), http.StatusOK)
	return &certificate{o, key, c.parseChain(a)}
}

// parseChain reads a chain in PEM.
func (c *Client) parseChain(a Answer) []*x509.Certificate {
	c.t.Helper()
	var chain []*x509.Certificate
	for rest := a.Body; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			c.t.Fatal(err)
		}
		chain = append(chain, cert)
	}
	if len(chain) == 0 {
		c.t.Fatalf("there is no certificate in %v", a)
	}
	return chain
}

// issue obtains a certificate.
func (c *Client) issue(names ...string) *certificate {
	c.t.Helper()
	for {
		cert := c.complete(c.ready(names...), newKey(c.t))
		// When a new order replaces a certificate, Pebble does not find the
		// order of a certificate whose serial number needs a leading 00 in DER:
		// some four in a thousand.
		if cert.leaf().SerialNumber.BitLen()%8 != 0 {
			return cert
		}
	}
}
