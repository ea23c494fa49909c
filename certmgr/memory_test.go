package certmgr

import (
	"crypto/x509"
	"testing"
	"time"

	"github.com/nostall/nostall/internal/bundle"
)

// alwaysListed is the check of a host that nobody takes off the list.
func alwaysListed() *refusal { return nil }

// The decisive check is the one under memory's lock: a revoked certificate is
// not kept, however late it comes.
func TestMemoryTakesNoBarredCertificate(t *testing.T) {
	m, now := newMemory(func(string) bool { return false }), time.Now()
	sub := newSubject(bundle.ECDSA, "ca", "a.example.com")
	revoked, sound := certFor(t, sub), certFor(t, sub)
	publish := func(c *certificate) bool {
		published, _ := m.publish(c, grant{}, now, alwaysListed)
		return published
	}
	adopt := func(c *certificate) *certificate {
		kept, _ := m.adopt(c, grant{}, now, alwaysListed)
		return kept
	}
	publish(revoked)
	if removed, news := m.bar(revoked, false, now); removed != revoked || !news {
		t.Errorf("bar returned %v, %v", removed, news)
	}
	if adopt(revoked) != nil || publish(revoked) || m.current(sub) != nil {
		t.Error("memory took a revoked certificate")
	}
	if adopt(sound) != sound {
		t.Error("memory refused another one")
	}
	if removed, news := m.bar(revoked, false, now); removed != nil || news {
		t.Errorf("bar returned %v, %v for the second time", removed, news)
	}
	m.bar(sound, true, now)
	renewed := newCertificate(sub, sound.key, sound.chain, &x509.Certificate{Raw: []byte{1}, RawSubjectPublicKeyInfo: sound.leaf.RawSubjectPublicKeyInfo})
	if publish(renewed) {
		t.Error("memory took a certificate with a compromised key")
	}
}

// What is remembered of revocations has a bound, and what ends sooner goes first.
func TestBarredCertificatesAreBounded(t *testing.T) {
	m, now := newMemory(func(string) bool { return false }), time.Now()
	id := func(i int) fingerprint { return fingerprint{byte(i), byte(i >> 8), byte(i >> 16)} }
	late := func(i int) bool { return i%2 == 0 }
	for i := range maxBarred + 100 {
		until := now.Add(time.Hour)
		if late(i) {
			until = now.Add(24 * time.Hour)
		}
		m.barred.Put(id(i), until, time.Time.Before)
	}
	if m.barred.Len() != maxBarred {
		t.Errorf("%d entries, want %d", m.barred.Len(), maxBarred)
	}
	for i := range maxBarred {
		if _, ok := m.barred.Get(id(i)); !ok && late(i) {
			t.Fatal("an entry made room for others that end sooner")
		}
	}
}
