package order

import (
	"errors"
	"maps"
	"slices"
	"testing"

	"golang.org/x/crypto/acme"
)

// A CA that reports one name without subproblems says which in its text.
func TestNamesInTheTextOfAProblemAreBlamed(t *testing.T) {
	const rejected, limited = "urn:ietf:params:acme:error:rejectedIdentifier", "urn:ietf:params:acme:error:rateLimited"
	for name, test := range map[string]struct {
		status int
		typ    string
		detail string
		want   []string
	}{
		"one is rejected": {400, rejected, `Error creating new order :: Cannot issue for "www.example.com": Domain name is forbidden by policy`, []string{"www.example.com"}},
		"in capitals":     {400, rejected, `Cannot issue for WWW.EXAMPLE.COM`, []string{"www.example.com"}},
		"ends a sentence": {400, rejected, `Policy forbids issuing for example.com.`, []string{"example.com"}},
		"some are paused": {429, limited, `Your account is temporarily prevented from requesting certificates for one or more of the following domains: example.com, mail.example.com. To unpause, visit https://ca.example/unpause?jwt=x`,
			[]string{"example.com", "mail.example.com"}},
		"CAA":                 {403, "urn:ietf:params:acme:error:caa", `CAA record for www.example.com prevents issuance`, []string{"www.example.com"}},
		"part of other names": {400, rejected, `Cannot issue for "x.www.example.com" and "mail.example.com.au" and "my-example.com"`, nil},
		"all of them":         {400, rejected, `Cannot issue for example.com, www.example.com, mail.example.com`, nil},
		"none":                {400, "urn:ietf:params:acme:error:malformed", `Order is malformed`, nil},
		"a rate limit":        {429, limited, `too many certificates already issued for "example.com"`, nil},
		"the CA's failure":    {500, "urn:ietf:params:acme:error:serverInternal", `looking up example.com failed`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			c := &conversation{req: Request{Names: []string{"example.com", "www.example.com", "mail.example.com"}}}
			err := c.blameNamed(&acme.Error{StatusCode: test.status, ProblemType: test.typ, Detail: test.detail})
			var got []string
			if named, ok := errors.AsType[*NamesError](err); ok {
				got = slices.Sorted(maps.Keys(named.Failed))
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("%q are blamed, want %q", got, test.want)
			}
		})
	}
}
