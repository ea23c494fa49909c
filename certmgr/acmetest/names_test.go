package acmetest_test

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/internal/conformance"
)

// otherTexts holds the text parameters that are no names, by method and index.
func otherTexts() map[string][]int {
	return map[string][]int{
		"AddTXT":            {1}, // value
		"AgreeToTerms":      {0}, // URL of an account
		"ChangeTerms":       {0}, // URL
		"CountAccount":      {1}, // URL of an account
		"DeactivateAccount": {0}, // URL of an account
		"FailValidation":    {1}, // challenge type

		"FailSecondaryValidation": {1}, // challenge type

		"RemoveTXT":  {1}, // value
		"Respond":    {3}, // body
		"RetryAfter": {1}, // value
		"WaitUntil":  {1}, // what it waits for
	}
}

// TestEveryMethodChecksNamesAndEndpoints: every method, including those that
// are yet to be written, refuses an endpoint or a name that fits nothing, and
// says what to write.
func TestEveryMethodChecksNamesAndEndpoints(t *testing.T) {
	s := acmetest.NewMemoryServer()
	defer s.Close()
	typ := reflect.TypeFor[*acmetest.Server]()
	var checked int
	for i := range typ.NumMethod() {
		method := typ.Method(i)
		for n := 1; n < method.Type.NumIn(); n++ {
			for _, mistake := range mistakesIn(method, n) {
				checked++
				got := panicOf(func() { method.Func.Call(arguments(t, s, method.Type, n, mistake.value)) })
				for _, want := range mistake.want {
					if !strings.Contains(got, want) {
						t.Errorf("%s(%#v): panic %q, want one with %q", method.Name, mistake.value, got, want)
					}
				}
			}
		}
	}
	if checked < 200 {
		t.Errorf("only %d mistakes were made", checked)
	}
}

// mistake is an argument that fits nothing, and what the panic must say.
type mistake struct {
	value any
	want  []string
}

// mistakesIn returns mistakes for parameter n of a method.
func mistakesIn(method reflect.Method, n int) []mistake {
	list := []string{`"neworder"`, `"newOrder"`, `"renewalInfo"`}
	switch in := method.Type.In(n); {
	case in == reflect.TypeFor[acmetest.Endpoint]():
		return []mistake{{acmetest.Endpoint("neworder"), list}}
	case in == reflect.TypeFor[acmetest.Match]():
		mistakes := []mistake{
			{acmetest.Match{Endpoint: "neworder"}, list},
			{acmetest.Match{Account: "https://ca.example.com/account/1"}, []string{"not the URL of an account", "/account/1", "Accounts"}},
			{acmetest.Match{Count: -1}, []string{"-1"}},
			{acmetest.Match{After: -1}, []string{"-1"}},
		}
		for name, want := range wrongNames() {
			if name != "" {
				mistakes = append(mistakes, mistake{acmetest.Match{Host: name}, []string{want}})
			}
		}
		return mistakes
	case in == reflect.TypeFor[string]() && !slices.Contains(otherTexts()[method.Name], n-1):
		var mistakes []mistake
		for name, want := range wrongNames() {
			if name != "" || method.Name != "SetCNAME" {
				mistakes = append(mistakes, mistake{name, []string{want}})
			}
		}
		return mistakes
	}
	return nil
}

// prove orders a certificate for a name, accepts a challenge and checks the
// outcome. It adds the right answer to the records of a wildcard. It returns
// the order.
func (c *rawClient) prove(host, want string, records ...string) answer {
	c.t.Helper()
	_, o := c.order(host)
	typ := "http-01"
	if strings.HasPrefix(host, "*.") {
		typ = "dns-01"
	}
	u := o.authorizations()[0]
	challenge := c.get(u).challenge(typ)
	for _, record := range records {
		thumbprint, err := acme.JWKThumbprint(c.key.Public())
		if err != nil {
			c.t.Fatal(err)
		}
		sum := sha256.Sum256([]byte(c.get(challenge).str("token") + "." + thumbprint))
		c.server.AddTXT(record, conformance.B64(sum[:]))
	}
	c.do(post{url: challenge, payload: "{}"})
	for c.get(u).str("status") == "pending" {
		time.Sleep(time.Millisecond)
	}
	if a := c.get(u); a.str("status") != want {
		c.t.Fatalf("the validation of %s ended %q, want %q: %s\n%v", host, a.str("status"), want, a.body, c.server)
	}
	return o
}

// wrongNames holds names that fit nothing, and what the panic says of each.
func wrongNames() map[string]string {
	return map[string]string{
		"":                                   "empty",
		"https://www.example.com/":           `: "www.example.com"`,
		"https://WWW.example.com:8443/a?b#c": `: "www.example.com"`,
		"//www.example.com":                  `: "www.example.com"`,
		"www.example.com/":                   `: "www.example.com"`,
		"www.example.com:443":                `: "www.example.com"`,
		"bücher.example:443":                 `: "xn--bcher-kva.example"`,
		"[2001:db8::1]:443":                  `: "2001:db8::1"`,
		"192.0.2.1:80":                       `: "192.0.2.1"`,
		"2001:db8:::1":                       "no IP address",
		"fe80::1%eth0":                       "zone",
		"192.0.2.256":                        "no IPv4 address",
		"me@example.com":                     "write the host name alone",
		"a.example.com,b.example.com":        "single name",
		" www.example.com":                   "space",
		"www.example.com\n":                  "space",
		".example.com":                       `no label ""`,
		"www..example.com":                   `no label ""`,
		"www.example.com..":                  `no label ""`,
		"www.*.com":                          `no label "*"`,
		"**.example.com":                     `no label "**"`,
		"www*.example.com":                   `no label "www*"`,
		"*.":                                 "label",
		"*.192.0.2.1":                        "no IPv4 address",
		`"www.example.com"`:                  "label",
		"\u0080.example.com":                 "A-labels",
	}
}

// arguments returns arguments for a method, of which one is given.
func arguments(t *testing.T, s *acmetest.Server, typ reflect.Type, n int, given any) []reflect.Value {
	args := []reflect.Value{reflect.ValueOf(s)}
	fixed := typ.NumIn()
	if typ.IsVariadic() {
		fixed--
	}
	for i := 1; i < fixed; i++ {
		in := typ.In(i)
		switch v := reflect.New(in).Elem(); {
		case i == n:
			v.Set(reflect.ValueOf(given))
			args = append(args, v)
		case in == reflect.TypeFor[context.Context]():
			ended, cancel := context.WithCancel(t.Context())
			cancel() // so that nothing waits if there is no panic
			args = append(args, reflect.ValueOf(ended))
		case in.Kind() == reflect.Func:
			args = append(args, reflect.MakeFunc(in, func([]reflect.Value) []reflect.Value { panic("called") }))
		case in.Kind() == reflect.Int || in.Kind() == reflect.Int64:
			v.SetInt(201) // a status, for one
			args = append(args, v)
		case in == reflect.TypeFor[acmetest.AccountBlock]():
			args = append(args, reflect.ValueOf(acmetest.BoulderDeactivated))
		case in.Kind() == reflect.String && in != reflect.TypeFor[acmetest.Endpoint]() && !typ.IsVariadic():
			v.SetString("www.example.com")
			args = append(args, v)
		default:
			args = append(args, v)
		}
	}
	return args
}

// panicOf returns what f panics with, as text; empty if it does not.
func panicOf(f func()) (text string) {
	defer func() {
		if v := recover(); v != nil {
			text = fmt.Sprint(v)
		}
	}()
	f()
	return ""
}

// spellings holds spellings of names, by the one that the CA uses.
func spellings() map[string][]string {
	return map[string][]string{
		"www.example.com":       {"www.example.com", "WWW.Example.COM", "www.example.com.", "WWW.EXAMPLE.COM."},
		"xn--bcher-kva.example": {"bücher.example", "BÜCHER.example", "bücher.example.", "bücher。example", "XN--BCHER-KVA.example"},
		"*.example.org":         {"*.example.org", "*.EXAMPLE.org."},
		"*.xn--bcher-kva.org":   {"*.bücher.org", "*.Bücher.ORG."},
		"192.0.2.1":             {"192.0.2.1", "::ffff:192.0.2.1", "::FFFF:c000:201"},
		"2001:db8::1":           {"2001:db8::1", "2001:DB8::1", "2001:db8:0:0:0:0:0:1", "2001:0db8::0001", "[2001:DB8::1]"},
	}
}

// Names mean the same in every spelling and everywhere.
func TestNamesAreNormalisedEverywhere(t *testing.T) {
	for host, names := range spellings() {
		for _, name := range names {
			t.Run(name, func(t *testing.T) {
				inBubble(t, func(t *testing.T, s *acmetest.Server, _ *responder) {
					checkSpelling(t, s, host, name)
				})
			})
		}
	}
}

// checkSpelling uses all that takes a name, with a spelling of host.
func checkSpelling(t *testing.T, s *acmetest.Server, host, name string) {
	c := newRawClient(t, s)
	c.register()
	delay := s.Delay(acmetest.Match{Endpoint: acmetest.NewOrder, Host: name, Count: 1}, time.Second)
	invalid := s.InvalidOrder(name, acmetest.Times(1))
	fail := s.FailValidation(name, "", acmetest.Problem{}, acmetest.Times(1))
	c.order(host)
	c.prove(host, "invalid")
	for _, fault := range []*acmetest.Fault{delay, invalid, fail} {
		if n := fault.Acted(); n != 1 {
			t.Errorf("%v acted %d times, want 1", fault, n)
		}
	}
	var records []string
	if base, wildcard := strings.CutPrefix(name, "*."); wildcard {
		records = []string{"Elsewhere." + base}
		s.SetCNAME("_acme-challenge."+base, "elsewhere."+base)
	}
	s.Resolve(name, acmetest.Target{HTTPHandler: keyAuthorizer(t, c.key)})
	request := x509.CertificateRequest{DNSNames: []string{host}}
	if ip := net.ParseIP(host); ip != nil {
		request = x509.CertificateRequest{IPAddresses: []net.IP{ip}}
	}
	if a := c.finalize(c.prove(host, "valid", records...), csr(t, newECKey(t), request)); a.str("status") != "valid" {
		t.Fatalf("finalize: %d %s", a.status, a.body)
	}
	if _, err := s.WaitIssued(t.Context(), name, 1); err != nil {
		t.Error(err)
	}
	if err := s.WaitCount(t.Context(), acmetest.Match{Endpoint: acmetest.NewOrder, Host: name}, 3); err != nil {
		t.Error(err)
	}
	counts := [...]int{len(s.IssuedFor(name)), len(s.CSRsFor(name)), len(s.Authorizations(name)), s.CountHost(acmetest.NewOrder, name)}
	if counts != [...]int{1, 1, 3, 3} {
		t.Errorf("certificates, CSRs, authorizations, orders: %v\n%v", counts, s)
	}
	s.Unresolve(name)
	for _, record := range records {
		s.RemoveTXT(record, s.TXT(record)[0])
	}
	c.prove(host, "invalid")
}

// A pause ends for every spelling of the name, and problems that a test writes
// name it as the CA does.
func TestUnpauseAndSubproblemsNormaliseNames(t *testing.T) {
	s := acmetest.NewUnstartedServer()
	s.RateLimits = &acmetest.RateLimits{ConsecutiveFailures: acmetest.Limit{Burst: 1, Refill: time.Hour}}
	s.StartMemory()
	defer s.Close()
	c := newRawClient(t, s)
	c.register()
	c.prove("xn--bcher-kva.example", "invalid")
	c.prove("xn--bcher-kva.example", "invalid")
	order := func() answer { return c.newOrder(nil, "xn--bcher-kva.example") }
	if a := order(); a.status != http.StatusTooManyRequests {
		t.Errorf("%d %s, want a pause", a.status, a.body)
	}
	s.Unpause("Bücher.example.")
	if a := order(); a.status != http.StatusCreated {
		t.Errorf("%d %s, want an order", a.status, a.body)
	}
	s.Status(acmetest.Match{Host: "bücher.example"}, 403, nil, acmetest.Problem{
		Subproblems: []acmetest.Subproblem{{Type: "caa", Host: "Bücher.example."}, {Type: "dns", Host: "2001:DB8::1"}},
	})
	if a := order(); !strings.Contains(string(a.body), `{"type":"dns","value":"xn--bcher-kva.example"}`) ||
		!strings.Contains(string(a.body), `{"type":"ip","value":"2001:db8::1"}`) {
		t.Errorf("the problem is %s", a.body)
	}
}

// What a client sends is matched in any spelling too, although the CA refuses
// most of them.
func TestNamesThatClientsMisspellAreMatched(t *testing.T) {
	s := acmetest.NewMemoryServer()
	defer s.Close()
	c := newRawClient(t, s)
	c.register()
	for _, name := range []string{"bücher.example", "xn--bcher-kva.example.", "XN--BCHER-KVA.example", "https://bücher.example/"} {
		c.newOrder(nil, name)
	}
	if n := s.CountHost(acmetest.NewOrder, "bücher.example"); n != 3 {
		t.Errorf("%d orders counted, want all but that for a URL\n%v", n, s)
	}
}
