package certmgr

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"testing"
	"time"
)

func leafOf(issuer string) *certificate {
	return &certificate{served: served{leaf: &x509.Certificate{Issuer: pkix.Name{CommonName: issuer}}}}
}

// A CA is known by the first certificate that it issues. Until then its
// certificates are replaced one a minute, so that a gateway to a CA for tests
// does not replace those of all hosts.
func TestCAIsKnownByWhatItIssues(t *testing.T) {
	const staging, real = "(STAGING) Riddling Rhubarb R12", "R12"
	for _, issues := range []string{staging, real} {
		a := newAuthority("https://gateway.example/directory")
		if !a.distrusts(leafOf(staging)) || a.distrusts(leafOf(real)) {
			t.Error("a certificate for tests is trusted, or another is not")
		}
		now := time.Now()
		if at := a.replaceAt(now); !at.Equal(now) {
			t.Errorf("the first replacement begins at %v, want at once", at)
		}
		for _, since := range []time.Duration{0, 59 * time.Second} {
			if at := a.replaceAt(now.Add(since)); !at.Equal(now.Add(pilotEvery)) {
				t.Errorf("%v later the next one begins at %v, want a minute after the first", since, at)
			}
		}
		if at := a.replaceAt(now.Add(-time.Hour)); !at.Equal(now.Add(-time.Hour)) {
			t.Errorf("after the clock was set back the next one begins at %v, want at once", at)
		}
		a.hasIssued(leafOf(issues).leaf)
		if got, want := a.distrusts(leafOf(staging)), issues == real; got != want {
			t.Errorf("after it issued one of %q, those for tests are distrusted: %v, want %v", issues, got, want)
		}
		if at := a.replaceAt(now); !at.Equal(now) {
			t.Errorf("the next one begins at %v, want at once", at)
		}
	}
}
