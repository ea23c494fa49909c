package certmgr

import (
	"cmp"
	"crypto/x509"
	"net"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/nostall/nostall/internal/text"
)

// authority is what is known about the configured CA: whether it is one for
// tests, whose certificates no client trusts. Certificates of such a CA are
// often left in the Cache when the real one is configured. They are served, as
// autocert does, and replaced at once.
type authority struct {
	forTests bool // by the directory's URL

	mu     sync.Mutex
	issued bool      // it has issued a certificate
	tests  bool      // that one was for tests
	pilot  time.Time // when the last replacement began before that
}

// pilotEvery is the shortest time between two replacements before the CA is
// known to issue other certificates than those to be replaced.
const pilotEvery = time.Minute

func newAuthority(directory string) *authority {
	u, err := url.Parse(directory)
	if err != nil {
		return &authority{}
	}
	host := u.Hostname()
	ip := net.ParseIP(host)
	return &authority{forTests: namesTests(directory) || host == "localhost" || ip != nil && ip.IsLoopback()}
}

// namesTests reports whether the URL of a CA's directory, or the name of an
// issuer, is that of a CA for tests: Let's Encrypt's "(STAGING) Riddling
// Rhubarb R12" and "Fake LE Intermediate X1", "Pebble Intermediate CA 1a2b3c",
// "h2ppy h2cker fake CA".
func namesTests(name string) bool {
	name = strings.ToLower(name)
	return strings.Contains(name, "staging") || strings.Contains(name, "fake") || strings.Contains(name, "pebble")
}

// issuerOf returns the name of a certificate's issuer.
func issuerOf(leaf *x509.Certificate) string {
	name := leaf.Issuer.CommonName
	if org := strings.Join(leaf.Issuer.Organization, ", "); org != "" && org != name {
		name = strings.TrimPrefix(name+", "+org, ", ")
	}
	return text.OneLine(cmp.Or(name, leaf.Issuer.String()), maxIssuer)
}

const maxIssuer = 200

// distrusts reports whether a certificate is one for tests, and the configured
// CA is not.
func (a *authority) distrusts(c *certificate) bool {
	if a.forTests || !namesTests(issuerOf(c.leaf)) {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return !a.tests
}

// hasIssued notes a certificate of the configured CA. If that is for tests, so
// are all of its certificates, and none is replaced.
func (a *authority) hasIssued(leaf *x509.Certificate) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.issued, a.tests = true, namesTests(issuerOf(leaf))
}

// replaceAt returns when a certificate for tests may be replaced: now, but one
// at a time before the CA is known to issue others. The caller begins then.
func (a *authority) replaceAt(now time.Time) time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	if since := now.Sub(a.pilot); !a.issued && since >= 0 && since < pilotEvery {
		return a.pilot.Add(pilotEvery)
	}
	a.pilot = now
	return now
}
