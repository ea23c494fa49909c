package acmetest

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// issuer is a root and its certificate for the intermediate's key.
type issuer struct{ root, intermediate *x509.Certificate }

// newIssuer creates the certificate of a root for the intermediate's key, which
// is valid for longer than any test in virtual time. The intermediates of all
// issuers have the same subject and key, so a leaf fits each of them.
func newIssuer(root *tls.Certificate, pub crypto.PublicKey) issuer {
	template := caTemplate("acmetest Intermediate", pub, time.Now().AddDate(30, 0, 0))
	template.MaxPathLenZero = true
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	template.Policies = domainValidated()
	return issuer{root.Leaf, mustParse(mustCreate(template, root.Leaf, pub, root.PrivateKey.(crypto.Signer)))}
}

// crossSign creates n more roots that certify the intermediate.
func (a *authority) crossSign(n int) {
	for i := range n {
		root := newRoot(fmt.Sprintf("acmetest Alternate Root %d", i+1))
		a.alternates = append(a.alternates, newIssuer(root, a.intermediateKey.Public()))
	}
}

// AlternateRoots returns a new pool with the root of alternate chain i, from 1
// to AlternateChains. The server must be started. It panics if there is no such
// chain.
func (s *Server) AlternateRoots(i int) *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(s.AlternateRoot(i))
	return pool
}

// AlternateRoot returns the root of alternate chain i as AlternateRoots does.
// Clients choose a chain by the common name of its root, which no other server's
// root has.
func (s *Server) AlternateRoot(i int) *x509.Certificate {
	s.mustBeUsable()
	if i < 1 || i > len(s.ca.alternates) {
		panic(fmt.Sprintf("acmetest: there is no alternate chain %d of %d (is AlternateChains set, the server started?)",
			i, len(s.ca.alternates)))
	}
	return s.ca.alternates[i-1].root
}

// chains returns the chains of a leaf in DER, without the roots: the default
// one first, then the alternates.
func (a *authority) chains(leaf *x509.Certificate) [][][]byte {
	chains := [][][]byte{{leaf.Raw, a.intermediate.Raw}}
	for _, i := range a.alternates {
		chains = append(chains, [][]byte{leaf.Raw, i.intermediate.Raw})
	}
	return chains
}

// chainReply returns the chain that the path names, with links to the others
// (RFC 8555, section 7.4.2): "/certificate/7" is the default,
// "/certificate/7/1" the first alternate. s.mu is held.
func (s *Server) chainReply(x *exchange, c *certificate) (*reply, *Problem) {
	base := s.url(pathCertificate, c.id)
	rep := &reply{status: http.StatusOK, rawType: "application/pem-certificate-chain"}
	for i, chain := range c.chains {
		url := base
		if i > 0 {
			url = fmt.Sprintf("%s/%d", base, i)
		}
		if url == s.base+x.r.URL.Path {
			rep.raw = chain
		} else {
			rep.alternates = append(rep.alternates, url)
		}
	}
	if rep.raw == nil {
		return nil, notFound("certificate %d has no chain %s", c.id, strings.TrimPrefix(x.r.URL.Path, pathCertificate))
	}
	return rep, nil
}
