package bundle

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
)

// fakeRSA returns an RSA key in DER whose numbers have these sizes. Its factors
// are not prime.
func fakeRSA(t testing.TB, bits uint, pkcs8 bool) []byte {
	t.Helper()
	odd := func(bits uint) *big.Int {
		n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), bits-1))
		if err != nil {
			t.Fatal(err)
		}
		return n.SetBit(n.SetBit(n, int(bits)-1, 1), 0, 1)
	}
	der := mustMarshal(t, struct {
		Version     int
		N           *big.Int
		E           int
		D, P, Q     *big.Int
		Dp, Dq, Inv *big.Int
	}{0, odd(bits), 65537, odd(bits), odd(bits / 2), odd(bits / 2), odd(bits / 2), odd(bits / 2), odd(bits / 2)})
	if !pkcs8 {
		return der
	}
	type algorithm struct {
		ID   asn1.ObjectIdentifier
		Null asn1.RawValue
	}
	return mustMarshal(t, struct {
		Version   int
		Algorithm algorithm
		Key       []byte
	}{0, algorithm{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}, asn1.NullRawValue}, der})
}

func mustMarshal(t testing.TB, v any) []byte {
	t.Helper()
	der, err := asn1.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// oneLargeNumber is an RSA key that is small but for its modulus.
func oneLargeNumber(t testing.TB, bits uint) []byte {
	n := new(big.Int).Lsh(big.NewInt(1), bits)
	return mustMarshal(t, []*big.Int{new(big.Int), n, big.NewInt(3), big.NewInt(3), big.NewInt(3), big.NewInt(3)})
}

func pemBlock(typ string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: typ, Bytes: der})
}

// What is too large is refused by a limit that the error names, whatever else is
// wrong with it, and so before it is parsed.
func TestWhatIsTooLargeIsRefusedBeforeItIsParsed(t *testing.T) {
	leaf := (&pki{t: t, keys: make(map[string]crypto.Signer), der: make(map[string][]byte)}).certify("a.example", "A")
	key := pemBlock("PRIVATE KEY", []byte("no key"))
	for name, tt := range map[string]struct {
		data []byte
		want string
	}{
		"entry":               {bytes.Repeat([]byte("-----BEGIN "), MaxSize/11+1), "the limit is 131072"},
		"PEM headers":         {[]byte("-----BEGIN PRIVATE KEY-----\n" + strings.Repeat("a: b\n", MaxSize/5)), "the limit is 131072"},
		"key of 9,000 bytes":  {pemBlock("EC PRIVATE KEY", make([]byte, 9000)), "the limit is 8192"},
		"RSA, 262,144 bits":   {pemBlock("RSA PRIVATE KEY", fakeRSA(t, 262_144, false)), "the limit is"},
		"RSA, 16,384 bits":    {pemBlock("RSA PRIVATE KEY", fakeRSA(t, 16_384, false)), "the limit is 8192"},
		"RSA, PKCS #8":        {pemBlock("PRIVATE KEY", fakeRSA(t, 12_000, true)), "the limit for RSA is 8192"},
		"RSA, large modulus":  {pemBlock("RSA PRIVATE KEY", oneLargeNumber(t, 60_000)), "the limit for RSA is 8192"},
		"RSA, just too large": {pemBlock("RSA PRIVATE KEY", oneLargeNumber(t, 8192)), "the limit for RSA is 8192"},
		"RSA, large enough":   {pemBlock("RSA PRIVATE KEY", oneLargeNumber(t, 8191)), "cannot be parsed"},
	} {
		if _, _, err := Decode(tt.data); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want %q", name, err, tt.want)
		}
		if _, _, err := DecodeKey(tt.data); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error of DecodeKey %v, want %q", name, err, tt.want)
		}
	}
	if _, _, err := Decode(bytes.Repeat(key, 3)); err == nil || !strings.Contains(err.Error(), "cannot be parsed") {
		t.Errorf("a key that cannot be parsed: %v", err)
	}
	ec := testKey(t)
	data, err := Encode(ec, slicesOf(leaf, MaxChain))
	if err != nil {
		t.Fatal(err)
	}
	if _, chain, err := Decode(data); err != nil || len(chain) != MaxChain {
		t.Errorf("the longest chain: %d certificates, %v", len(chain), err)
	}
	// The block that is one too many is not looked at.
	if _, _, err := Decode(append(data, "-----BEGIN garbage"...)); err == nil || !strings.Contains(err.Error(), "the limit is 16") {
		t.Errorf("a longer chain: %v", err)
	}
}

func testKey(t testing.TB) crypto.Signer {
	t.Helper()
	key, err := GenerateKey(P256)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func slicesOf(der []byte, n int) [][]byte {
	chain := make([][]byte, n)
	for i := range chain {
		chain[i] = der
	}
	return chain
}

// certificateFor returns a self-signed certificate with the signer's key but
// another public key in it.
func certificateFor(t testing.TB, edit func(*x509.Certificate)) []byte {
	t.Helper()
	key := testKey(t)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"a.example"}}
	edit(tmpl)
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// withRSAKey replaces the public key of a certificate by an RSA one of a size.
func withRSAKey(t testing.TB, bits uint) []byte {
	t.Helper()
	n := new(big.Int).SetBit(new(big.Int).Lsh(big.NewInt(1), bits-1), 0, 1)
	type algorithm struct {
		ID   asn1.ObjectIdentifier
		Null asn1.RawValue
	}
	key := mustMarshal(t, struct {
		N *big.Int
		E int
	}{n, 65537})
	spki := mustMarshal(t, struct {
		Algorithm algorithm
		Key       asn1.BitString
	}{algorithm{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}, asn1.NullRawValue}, asn1.BitString{Bytes: key, BitLength: 8 * len(key)}})

	var cert struct {
		TBS       asn1.RawValue
		Algorithm asn1.RawValue
		Signature asn1.BitString
	}
	der := certificateFor(t, func(*x509.Certificate) {})
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := asn1.Unmarshal(der, &cert); err != nil {
		t.Fatal(err)
	}
	tbs := bytes.Replace(cert.TBS.Bytes, c.RawSubjectPublicKeyInfo, spki, 1)
	cert.TBS = asn1.RawValue{Class: asn1.ClassUniversal, Tag: asn1.TagSequence, IsCompound: true, Bytes: tbs}
	return mustMarshal(t, cert)
}

// A large key in a certificate is refused before a signature is checked by it.
func TestLargeCertificatesAreRefused(t *testing.T) {
	key := testKey(t)
	leaf := certificateFor(t, func(*x509.Certificate) {})
	for name, tt := range map[string]struct {
		der  []byte
		want string
	}{
		"8,192 bits":   {withRSAKey(t, 8192), ""},
		"8,193 bits":   {withRSAKey(t, 8193), "the limit is 8192"},
		"200,000 bits": {withRSAKey(t, 200_000), "the limit is 8192"},
		"2,000 names": {certificateFor(t, func(c *x509.Certificate) {
			for range 2000 {
				c.DNSNames = append(c.DNSNames, "another.a.example.com")
			}
		}), "the limit is 32768"},
		"garbage": {make([]byte, maxCertificate+1), "the limit is 32768"},
	} {
		_, err := parseCertificate(tt.der)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want %q", name, err, tt.want)
		}
		for what, err := range map[string]error{
			"Check":   second(Check([]string{"a.example"}, ECDSA, key, [][]byte{leaf, tt.der})),
			"Arrange": second(Arrange(key, [][]byte{leaf, tt.der})),
		} {
			if tt.want != "" && what == "Check" && !strings.Contains(err.Error(), tt.want) || err == nil {
				t.Errorf("%s: error of %s %v, want %q", name, what, err, tt.want)
			}
		}
	}
}

// A chain that is accepted can be stored, with the largest key, and be read
// again.
func TestLargestChainFitsIntoAnEntry(t *testing.T) {
	chain := slicesOf(make([]byte, maxChainSize/MaxChain), MaxChain)
	data, err := Encode(testKey(t), chain)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(data) + len(pemBlock("RSA PRIVATE KEY", make([]byte, maxPrivateKey))); n > MaxSize {
		t.Errorf("an entry of %d bytes, and %d are read", n, MaxSize)
	}
	chain[0] = append(chain[0], 0)
	if _, err := parseChain(chain); err == nil || !strings.Contains(err.Error(), "the limit is 81920") {
		t.Errorf("a larger chain: %v", err)
	}
}

func second[T any](_ T, err error) error { return err }

// BenchmarkHostile is what it costs to refuse, or to parse, entries that are as
// bad as the limits allow.
func BenchmarkHostile(b *testing.B) {
	key := testKey(b)
	names := certificateFor(b, func(c *x509.Certificate) {
		for range 1400 {
			c.DNSNames = append(c.DNSNames, "another.a.example.com")
		}
	})
	large := func(chain ...[]byte) []byte {
		data, err := Encode(key, chain)
		if err != nil {
			b.Fatal(err)
		}
		return data
	}
	for name, data := range map[string][]byte{
		"sound":              large(certificateFor(b, func(*x509.Certificate) {})),
		"RSA, 262,144 bits":  pemBlock("RSA PRIVATE KEY", fakeRSA(b, 262_144, false)),
		"RSA, 12,000 bits":   pemBlock("PRIVATE KEY", fakeRSA(b, 12_000, true)),
		"RSA, 8,192 bits":    pemBlock("RSA PRIVATE KEY", fakeRSA(b, 8192, false)),
		"PEM headers":        []byte("-----BEGIN PRIVATE KEY-----\n" + strings.Repeat("a: b\n", MaxSize/5-20)),
		"PEM beginnings":     bytes.Repeat([]byte("-----BEGIN A-----\n"), MaxSize/18),
		"many PEM blocks":    append(large(), bytes.Repeat(pemBlock("A", nil), 3000)...),
		"many names":         large(names, names),
		"RSA in certificate": large(certificateFor(b, func(*x509.Certificate) {}), withRSAKey(b, 200_000)),
		"longest chain":      large(slicesOf(certificateFor(b, func(*x509.Certificate) {}), MaxChain)...),
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if key, chain, err := Decode(data); err == nil {
					Check([]string{"a.example"}, ECDSA, key, chain)
				}
			}
		})
	}
}
