package challenge

import (
	"fmt"
	"strings"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/internal/hosts"
	"github.com/nostall/nostall/internal/text"
)

// Sighting says in words how often the CA's request arrived here, and what to
// check if it did not.
func (a *Answer) Sighting() string {
	switch n := a.seen.Load(); {
	case n == 1:
		return "the CA's request reached this process once"
	case n > 1:
		return fmt.Sprintf("the CA's request reached this process %d times", n)
	case a.typ == TLSALPN01:
		return "no tls-alpn-01 handshake of the CA reached this process: does the " + a.what() + " lead to this machine, is port 443 open, " +
			"and does tls.Config.NextProtos hold \"acme-tls/1\" (Manager.TLSConfig sets it)?"
	}
	return "no http-01 request of the CA reached this process: does the " + a.what() + " lead to this machine, is port 80 open, and is it served by Manager.HTTPHandler?"
}

// what names what the CA goes by.
func (a *Answer) what() string {
	if hosts.IsAddress(a.host) {
		return "address"
	}
	return "name"
}

// Hint says in words what to look at after the CA has refused the challenge: by
// the CA's reason, which may be nil, and by whether its request arrived here.
// That a request arrived does not mean that the CA got the answer: how a TLS
// handshake ended is known to the CA alone.
func (a *Answer) Hint(reason *acme.Error) string {
	if reason == nil {
		return a.Sighting()
	}
	said := strings.ToLower(text.Of(reason))
	kind := strings.ToLower(reason.ProblemType[strings.LastIndexByte(reason.ProblemType, ':')+1:])
	here := a.seen.Load() > 0
	switch {
	case hosts.IsAddress(a.host) && (kind == "caa" || kind == "dns"):
		return a.Sighting() // an address has nothing in the DNS
	case kind == "caa":
		if containsAny(said, "dns problem", "servfail", "timed out", "timeout", "looking up") {
			return "the domain's name servers do not answer for its CAA records: check them, and DNSSEC"
		}
		return "the domain's CAA records do not allow this CA"
	case kind == "dns":
		return dnsHint(said)
	case kind == "ratelimited":
		return "the CA's limit ends by itself"
	case IsNotOffered(a.typ, reason):
		return "the server that the CA reached does not offer its protocol: does tls.Config.NextProtos hold \"acme-tls/1\" (Manager.TLSConfig sets it)? " +
			"A load balancer in front must pass TLS on"
	case a.typ == TLSALPN01 && (containsAny(said, "certificate required", "certificate_required") ||
		here && containsAny(said, "handshake failure", "handshake_failure", "bad certificate", "bad_certificate")):
		return "the server broke off the CA's handshake: it probably requires a client certificate, which no CA has; use Manager.TLSConfig, " +
			"or have GetConfigForClient return a tls.Config without ClientAuth for \"acme-tls/1\""
	case hosts.IsAddress(a.host) && here && (kind == "unauthorized" || kind == "incorrectresponse" || kind == "connection"):
		return a.Sighting() + ", but not from everywhere, or another answer came: does a load balancer lead to other servers than this one, " +
			"and does no firewall select by country?"
	case here && (kind == "unauthorized" || kind == "incorrectresponse"):
		return a.Sighting() + ", but it got another answer too: does every A and AAAA record of the name lead to this server, or to one with the same Cache?"
	case here && kind == "connection":
		return a.Sighting() + ", but not from everywhere: does every A and AAAA record of the name lead here, and does no firewall select by country?"
	case here && kind == "tls":
		return a.Sighting() + ", and the handshake failed afterwards: what does the tls.Config do to \"acme-tls/1\" (ClientAuth, VerifyConnection)?"
	}
	return a.Sighting()
}

// dnsHint says what to do about a CA's problem with a name in DNS.
func dnsHint(said string) string {
	switch {
	case containsAny(said, "nxdomain", "no such"):
		return "the name does not exist in DNS: add an A or AAAA record that leads to this server, or take the name off the list"
	case containsAny(said, "servfail", "dnssec", "bogus"):
		return "the domain's name servers fail: check them, and DNSSEC"
	case containsAny(said, "timed out", "timeout", "time out"):
		return "the domain's name servers do not answer the CA: check them and their firewall"
	}
	return "check the name's A and AAAA records: one must lead to this server, and be public"
}

func containsAny(s string, subs ...string) bool {
	for _, sub := range subs {
		if strings.Contains(s, sub) {
			return true
		}
	}
	return false
}
