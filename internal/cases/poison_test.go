package cases

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/cache"
)

// rsaEntry returns a cache entry with an RSA key of the given size, whose
// factors are not prime.
func rsaEntry(t *T, bits uint) []byte {
	t.Helper()
	odd := func(bits uint) *big.Int {
		n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), bits-1))
		if err != nil {
			t.Fatal(err)
		}
		return n.SetBit(n.SetBit(n, int(bits)-1, 1), 0, 1)
	}
	p, q := odd(bits/2), odd(bits/2)
	d := odd(bits - 2)
	der, err := asn1.Marshal(struct {
		Version          int
		N                *big.Int
		E                int
		D, P, Q          *big.Int
		Dp, Dq, QInverse *big.Int
	}{0, new(big.Int).Mul(p, q), 65537, d, p, q, new(big.Int).Mod(d, p), new(big.Int).Mod(d, q), odd(bits/2 - 2)})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	pem.Encode(&b, &pem.Block{Type: "RSA PRIVATE KEY", Bytes: der})
	b.Write(bundle(t, time.Now(), time.Now().Add(time.Hour)))
	return b.Bytes()
}

// H23 (hostile review): a key in the cache that is larger than any in use is
// refused before it is processed, in handshakes of clients and of a CA.
func TestHugeKeysInTheCacheCostNothing(t *testing.T) {
	for name, tt := range map[string]struct {
		key   string
		hello *tls.ClientHelloInfo
	}{
		"CA":      {host + "+token", challenge(host)},
		"visitor": {host, hello(host)},
	} {
		table.Run(t, "H23/"+name, func(t *T) {
			cost := func(bits uint, tries int, enough time.Duration) time.Duration {
				entry := rsaEntry(t, bits)
				return leastCost(tries, enough, func() {
					c := new(cache.Memory)
					if err := c.Put(t.Context(), tt.key, entry); err != nil {
						t.Fatal(err)
					}
					m := &certmgr.Manager{Cache: c, Hosts: certmgr.MustAllowlist(host), Audit: new(recorder).hook, HandshakeWait: -1,
						Client: nowhere()}
					m.GetCertificate(tt.hello)
					m.Close()
				})
			}
			allowed := 50 * cost(4096, 5, 0)
			if d := cost(65_536, 4, allowed); d > allowed {
				t.Errorf("a key of 65,536 bits costs %v, and 50 times one of 4,096 bits %v", d, allowed)
			}
		})
	}
}
