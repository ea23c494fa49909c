package acmetest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"net"
	"slices"
	"strings"
	"testing"
)

// The public keys of RFC 7515, appendices A.3 and A.4, and of RFC 7638, section
// 3.1.
const (
	jwkP256 = `{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",` +
		`"y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}`
	jwkP521 = `{"kty":"EC","crv":"P-521","x":"AekpBQ8ST8a8VcfVOTNl353vSrDCLLJXmPk06wTjxrrjcBpXp5EOnYG_NjFZ6OvLFV1jSfS9tsz4qUxcWceqwQGk",` +
		`"y":"ADSmRA43Z1DSNx_RvcLI87cdL07l6jQyyBXMoxVg_l2Th-x3S1WDhjDly79ajL4Kkd0AZMaZmh9ubmf63e3kyMj2"}`
	jwkRSA = `{"kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECP` +
		`ebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgn` +
		`Yb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-c` +
		`sFCur-kEgU8awapJzKnqDKgw","e":"AQAB","alg":"RS256","kid":"2011-04-29"}`
)

// encodeJWS writes the JSON of a JWS.
func encodeJWS(header, payload string) []byte {
	return fmt.Appendf(nil, `{"protected":%q,"payload":%q,"signature":%q}`,
		base64url.EncodeToString([]byte(header)), base64url.EncodeToString([]byte(payload)),
		base64url.EncodeToString(make([]byte, 64)))
}

// oneLine fails the test if an error's text has more than one line.
func oneLine(t *testing.T, text string) {
	t.Helper()
	if text == "" || strings.ContainsAny(text, "\n\r\x00\x1b") {
		t.Fatalf("the error is %q", text)
	}
}

// FuzzJWS: parsing a request never panics. A parsed request has one encoding,
// so the signed bytes are the parsed ones, and no member name occurs twice.
func FuzzJWS(f *testing.F) {
	for _, jwk := range []string{jwkP256, jwkP521, jwkRSA, `{"kty":"oct","k":"AA"}`, "null", "[]", strings.Repeat("[", 200)} {
		header := `{"alg":"ES256","nonce":"AAAA","url":"https://ca.example/new-account","jwk":` + jwk + `}`
		f.Add(encodeJWS(header, `{"termsOfServiceAgreed":true}`))
	}
	kid := `{"alg":"ES256","nonce":"AAAA","url":"https://ca.example/order/1","kid":"https://ca.example/account/1"}`
	f.Add(encodeJWS(kid, ""))
	f.Add(encodeJWS(`{"alg":"ES256","alg":"none"}`, "{}"))
	f.Add(encodeJWS(`{"alg":"ES256","\u0061lg":"none"}`, "{}"))
	f.Add(encodeJWS(`{"alg":"ES256","crit":["b64"],"b64":false}`, "{}"))
	f.Add(encodeJWS(`{"alg":null}`, "{}"))
	f.Add(bytes.Replace(encodeJWS(kid, "{}"), []byte(`"payload":"e30"`), []byte(`"payload":"e3\n0"`), 1)) // a line break
	f.Add(bytes.Replace(encodeJWS(kid, "{}"), []byte(`"payload":"e30"`), []byte(`"payload":"e31"`), 1))   // stray bits
	f.Add(bytes.Replace(encodeJWS(kid, "{}"), []byte(`"payload":"e30"`), []byte(`"payload":"e30="`), 1))  // padding
	f.Add([]byte(`{"payload":"","protected":"e30","signature":"","header":{}}`))
	f.Add([]byte(`{"payload":"","signatures":[{"protected":"e30","signature":""}]}`))
	f.Add([]byte("e30.e30."))
	f.Fuzz(func(t *testing.T, body []byte) {
		j, problem := parseJWS(body)
		if problem != nil {
			if oneLine(t, problem.Detail); j != nil || problem.Type != "malformed" {
				t.Fatalf("parseJWS(%q) = %v, %v", body, j, problem)
			}
			return
		}
		protected64, payload64, _ := strings.Cut(string(j.input), ".")
		protected, err := base64url.DecodeString(protected64)
		if err != nil || payload64 != base64url.EncodeToString(j.payload) || protected64 != base64url.EncodeToString(protected) {
			t.Fatalf("parseJWS(%q) signs %q, but the payload is %q (%v)", body, j.input, j.payload, err)
		}
		if j.header.alg == nil {
			t.Fatalf("parseJWS(%q) has no alg", body)
		}
		end := bytes.LastIndexByte(body, '}')
		for _, member := range []string{"payload", "protected", "signature"} {
			twice := fmt.Sprintf(`%s,%q:""}`, body[:end], member)
			if _, problem := parseJWS([]byte(twice)); problem == nil {
				t.Fatalf("%q was read, although it has %q twice", twice, member)
			}
		}
		end = bytes.LastIndexByte(protected, '}')
		if twice := string(protected[:end]) + `,"alg":"none"}`; new(jwsHeader).parse([]byte(twice)) == nil {
			t.Fatalf("the header %q was read, although it has alg twice", twice)
		}
		fuzzJWK(t, j)
	})
}

// fuzzJWK: a parsed key is usable and has one thumbprint, however it is
// encoded.
func fuzzJWK(t *testing.T, j *jws) {
	if j.header.jwk == nil {
		return
	}
	key, err := parseJWK(j.header.jwk)
	if err != nil {
		oneLine(t, err.Error())
		return
	}
	var again string
	switch pub := key.public.(type) {
	case *ecdsa.PublicKey:
		point, err := pub.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		size := len(point) / 2
		again = fmt.Sprintf(`{"y":%q,"x":%q,"crv":%q,"kty":"EC"}`, base64url.EncodeToString(point[1+size:]),
			base64url.EncodeToString(point[1:1+size]), pub.Curve.Params().Name)
		if pub.Curve == elliptic.P256() && j.verify(key) { // the others are slow
			j.input = append(j.input, 'x')
			if j.verify(key) {
				t.Fatalf("the signature fits %q as well", j.input)
			}
		}
	case *rsa.PublicKey:
		if bits := pub.N.BitLen(); bits < 2048 || bits > 4096 {
			t.Fatalf("an RSA key of %d bits was read", bits)
		}
		again = fmt.Sprintf(`{"kty":"RSA","n":%q,"e":"AQAB"}`, base64url.EncodeToString(pub.N.Bytes()))
	}
	same, err := parseJWK([]byte(again))
	if err != nil || same.thumbprint != key.thumbprint || same.alg != key.alg || !same.equal(key.public) {
		t.Fatalf("%s was read, and written as %s, of which it is said %v, %+v", j.header.jwk, again, err, same)
	}
	if !slices.Contains(algorithms(), key.alg) {
		t.Fatalf("algorithm %q", key.alg)
	}
}

// FuzzObject: members of a payload are recognised by their exact names, once.
func FuzzObject(f *testing.F) {
	for _, payload := range []string{`{}`, `{"csr":"AA"}`, `{"CSR":"AA"}`, `{"csr":"A","csr":"B"}`, `{"csr":null}`, `{"csr":1}`, `{"list":[{"csr":{}}]}`,
		`[]`, `null`, `{"a":1}x`, `{"\u0063sr":"AA"}`, "{\"csr\":\"\xff\"}", strings.Repeat(`{"list":[`, 100)} {
		f.Add([]byte(payload))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		var got struct {
			CSR  *string `json:"csr"`
			List []any
		}
		if problem := decodeObject(payload, &got); problem != nil {
			oneLine(t, problem.Detail)
			return
		}
		var want map[string]any
		if err := json.Unmarshal(payload, &want); err != nil {
			t.Fatalf("%q was read, although %v", payload, err)
		}
		if csr, ok := want["csr"].(string); ok != (got.CSR != nil) || ok && csr != *got.CSR {
			t.Fatalf("%q was read as %+v", payload, got)
		}
		if list, _ := want["list"].([]any); len(list) != len(got.List) {
			t.Fatalf("%q was read as %+v", payload, got)
		}
	})
}

// FuzzCSR: parsing a CSR never panics, and a valid one is for exactly the names
// in it.
func FuzzCSR(f *testing.F) {
	s := NewUnstartedServer()
	f.Cleanup(s.Close)
	key := newKey()
	f.Add([]byte(nil), "", "www.example.com", "www.example.com")
	f.Add([]byte(nil), "A.example.com", "b.example.com,a.example.com", "a.example.com,b.example.com")
	f.Add([]byte(nil), "c.example.com", "a.example.com", "a.example.com")
	f.Add([]byte(nil), "", "a.example.com,b.example.com", "a.example.com")
	f.Add([]byte(nil), "", "192.0.2.1,2001:db8::1,*.example.com", "*.example.com,192.0.2.1,2001:db8::1")
	f.Add([]byte(nil), "192.0.2.1", "", "192.0.2.1")
	f.Add([]byte(nil), "", "", "a.example.com")
	f.Add([]byte(nil), "", "aA", "AA")
	f.Add([]byte(nil), "a\x1b", "a\nb.example.com", "a.example.com")
	for _, template := range []*x509.CertificateRequest{
		{DNSNames: []string{"a.example.com"}},
		{DNSNames: []string{"a.example.com"}, EmailAddresses: []string{"a@example.com"}},
		{Subject: pkix.Name{CommonName: "a.example.com", Organization: []string{"x"}}},
	} {
		der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(der, "", "", "a.example.com")
	}
	f.Add([]byte("-----BEGIN CERTIFICATE REQUEST-----"), "", "", "")
	f.Fuzz(func(t *testing.T, der []byte, cn, names, order string) {
		hosts := strings.Split(strings.ToLower(order), ",") // as in every order
		slices.Sort(hosts)
		hosts = slices.Compact(hosts)
		made := len(der) == 0
		if made {
			template := &x509.CertificateRequest{Subject: pkix.Name{CommonName: cn}}
			for name := range strings.SplitSeq(names, ",") {
				if ip := net.ParseIP(name); ip != nil {
					template.IPAddresses = append(template.IPAddresses, ip)
				} else if name != "" {
					template.DNSNames = append(template.DNSNames, name)
				}
			}
			var err error
			if der, err = x509.CreateCertificateRequest(rand.Reader, template, key); err != nil {
				return
			}
		}
		request, problem := s.checkCSR(base64url.EncodeToString(der), hosts)
		if problem != nil {
			if oneLine(t, problem.Detail); problem.Type != "badCSR" && problem.Type != "malformed" {
				t.Fatalf("checkCSR(%x, %q) = %v", der, hosts, problem)
			}
			if request, err := x509.ParseCertificateRequest(der); made && err == nil && maps.Equal(namesOf(request), setOf(hosts)) {
				t.Fatalf("a CSR for %v is refused for an order of %q: %v", namesOf(request), hosts, problem)
			}
			return
		}
		if !maps.Equal(namesOf(request), setOf(hosts)) || len(request.EmailAddresses)+len(request.URIs) > 0 {
			t.Fatalf("a CSR for %v is taken for an order of %q", namesOf(request), hosts)
		}
	})
}

// namesOf returns all names of a CSR in lower case. An IP address only in the
// common name does not count.
func namesOf(request *x509.CertificateRequest) map[string]bool {
	names := setOf(request.DNSNames)
	for _, ip := range request.IPAddresses {
		names[ip.String()] = true
	}
	if cn := strings.ToLower(request.Subject.CommonName); cn != "" {
		if isIP(cn) && !names[cn] {
			cn = "common name " + cn
		}
		names[cn] = true
	}
	return names
}

func setOf(names []string) map[string]bool {
	set := make(map[string]bool)
	for _, name := range names {
		set[strings.ToLower(name)] = true
	}
	return set
}

// FuzzIdentifier: an identifier is refused in one line, or becomes a name in
// canonical form.
func FuzzIdentifier(f *testing.F) {
	for _, value := range []string{"", ".", "*", "*.", "*.*.example.com", "www.EXAMPLE.com", "example.com.", "a..b", "localhost", "xn--bcher-kva.example",
		"bücher.example", "a_b.example.com", "-a.example.com", "192.0.2.1", "192.0.2.01", "2001:db8::1", "2001:DB8::1", "::ffff:192.0.2.1", "fe80::1%eth0",
		"\xff.example", "K.example.com", strings.Repeat("a", 64) + ".example.com", strings.Repeat("a.", 130) + "com"} {
		f.Add("dns", value)
		f.Add("ip", value)
	}
	s := NewUnstartedServer()
	f.Cleanup(s.Close)
	f.Fuzz(func(t *testing.T, typ, value string) {
		name, problem := s.checkIdentifier(identifier{typ, value})
		if problem != nil {
			oneLine(t, problem.Detail)
			return
		}
		again, problem := s.checkIdentifier(identifierOf(name))
		if problem != nil || again != name || identifierOf(name).Type != typ || !strings.EqualFold(name, value) {
			t.Fatalf("%s %q is read as %q, and that as %q, %v", typ, value, name, again, problem)
		}
		if len(s.challengesFor(name)) == 0 || strings.ContainsFunc(name, func(r rune) bool { return r > 'z' || r < '*' || r == ',' }) {
			t.Fatalf("%s %q is read as %q", typ, value, name)
		}
	})
}

// FuzzCertID: an accepted identifier belongs to a certificate, and the
// identifier of any certificate is accepted.
func FuzzCertID(f *testing.F) {
	aki := []byte{0x69, 0x88, 0x5b, 0x6b}
	f.Add("aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE", aki, []byte{0x87, 0x65, 0x43, 0x21}) // RFC 9773, section 4.1
	for _, id := range []string{"", ".", "AA", "AA.", ".AA", "AA.AA", "AA.AIA", "AA.gA", "AA.AAE", "AA.AQ.AQ", "AA==.AQ", "A\nA.AQ", "AB.AQ", "a+/b.AQ"} {
		f.Add(id, aki, []byte{1})
	}
	f.Fuzz(func(t *testing.T, id string, aki, serial []byte) {
		parsed, parsedSerial, _ := strings.Cut(id, ".")
		if problem := checkCertID(id); problem != nil {
			oneLine(t, problem.Detail)
		} else if leaf := leafWith(t, parsed, parsedSerial); CertID(leaf) != id {
			t.Fatalf("%q is accepted, but its certificate has %q", id, CertID(leaf))
		}
		leaf := &x509.Certificate{AuthorityKeyId: aki, SerialNumber: new(big.Int).SetBytes(serial)}
		if made := CertID(leaf); len(aki) > 0 && checkCertID(made) != nil {
			t.Fatalf("the certificate with the key identifier %x and the serial number %x has %q: %v", aki, serial, made, checkCertID(made))
		}
	})
}

// leafWith returns a certificate with the two parts of an identifier.
func leafWith(t *testing.T, aki, serial string) *x509.Certificate {
	t.Helper()
	keyID, err := base64url.DecodeString(aki)
	if err != nil {
		t.Fatal(err)
	}
	number, err := base64url.DecodeString(serial)
	if err != nil {
		t.Fatal(err)
	}
	return &x509.Certificate{AuthorityKeyId: keyID, SerialNumber: new(big.Int).SetBytes(number)}
}
