package dnstest_test

import (
	"slices"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

const (
	classNone = 254
	opUpdate  = 5
)

func record(name string, class dnsmessage.Class, values ...string) dnsmessage.Resource {
	return dnsmessage.Resource{
		Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(name), Type: dnsmessage.TypeTXT, Class: class},
		Body:   &dnsmessage.TXTResource{TXT: values},
	}
}

// TestUpdates: each row acts on the two records "one" and "two" of the name.
func TestUpdates(t *testing.T) {
	const name = "_acme-challenge.www.example.com."
	in, any := dnsmessage.ClassINET, dnsmessage.ClassANY
	a := record(name, in)
	a.Header.Type, a.Body = dnsmessage.TypeA, &dnsmessage.AResource{}
	everything := record(name, any)
	everything.Header.Type, everything.Body = dnsmessage.TypeALL, &dnsmessage.UnknownResource{Type: dnsmessage.TypeALL}
	for _, test := range []struct {
		what     string
		zone     string
		requires []dnsmessage.Resource
		updates  []dnsmessage.Resource
		rcode    int
		want     []string
	}{
		{"adds one", "example.com.", nil, []dnsmessage.Resource{record(name, in, "three")}, 0, []string{"one", "two", "three"}},
		{"adds one in several strings", "example.com.", nil, []dnsmessage.Resource{record(name, in, "th", "ree")}, 0, []string{"one", "two", "three"}},
		{"adds what is there", "example.com.", nil, []dnsmessage.Resource{record(name, in, "one")}, 0, []string{"one", "two"}},
		{"removes one", "example.com.", nil, []dnsmessage.Resource{record(name, classNone, "one")}, 0, []string{"two"}},
		{"removes what is not there", "example.com.", nil, []dnsmessage.Resource{record(name, classNone, "three")}, 0, []string{"one", "two"}},
		{"removes all", "example.com.", nil, []dnsmessage.Resource{record(name, any)}, 0, nil},
		{"removes the name", "example.com.", nil, []dnsmessage.Resource{everything}, 0, nil},
		{"replaces all", "www.example.com.", nil, []dnsmessage.Resource{record(name, any), record(name, in, "new")}, 0, []string{"new"}},
		{"the name is the zone", name, nil, []dnsmessage.Resource{record(name, in, "three")}, 0, []string{"one", "two", "three"}},
		{"another zone", "example.org.", nil, []dnsmessage.Resource{record(name, in, "three")}, 10, []string{"one", "two"}},
		{"a suffix that is no zone", "ample.com.", nil, []dnsmessage.Resource{record(name, in, "three")}, 10, []string{"one", "two"}},
		{"another type", "example.com.", nil, []dnsmessage.Resource{a}, 5, []string{"one", "two"}},
		{"all or nothing", "example.com.", nil, []dnsmessage.Resource{record(name, in, "three"), a}, 5, []string{"one", "two"}},
		{"another class", "example.com.", nil, []dnsmessage.Resource{record(name, 3, "three")}, 1, []string{"one", "two"}},
		{"a prerequisite", "example.com.", []dnsmessage.Resource{record(name, any)}, []dnsmessage.Resource{record(name, in, "three")}, 4, []string{"one", "two"}},
	} {
		t.Run(test.what, func(t *testing.T) {
			ca, dns := start(t)
			ca.AddTXT(name, "one")
			ca.AddTXT(name, "two")
			for i := range test.updates { // a removal of all has no data
				if u := &test.updates[i]; u.Header.Class == any && u.Header.Type == dnsmessage.TypeTXT {
					u.Body = &dnsmessage.UnknownResource{Type: dnsmessage.TypeTXT}
				}
			}
			m := exchange(t, dns, dnsmessage.Message{
				Header:    dnsmessage.Header{OpCode: opUpdate},
				Questions: []dnsmessage.Question{question(test.zone, dnsmessage.TypeSOA)},
				Answers:   test.requires, Authorities: test.updates,
			})
			if int(m.RCode) != test.rcode {
				t.Errorf("%v, want code %d", m.RCode, test.rcode)
			}
			if got := ca.TXT(name); !slices.Equal(got, test.want) {
				t.Errorf("records %q, want %q", got, test.want)
			}
		})
	}
}

// TestUnsignedUpdatesAreRefusedIfThereAreKeys: clients with keys are tested in
// internal/integration.
func TestUnsignedUpdatesAreRefusedIfThereAreKeys(t *testing.T) {
	ca, dns := start(t)
	dns.Close()
	dns.Keys = map[string][]byte{"key": []byte("secret")}
	if err := dns.Start(); err != nil {
		t.Fatal(err)
	}
	m := exchange(t, dns, dnsmessage.Message{
		Header:      dnsmessage.Header{OpCode: opUpdate},
		Questions:   []dnsmessage.Question{question("example.com.", dnsmessage.TypeSOA)},
		Authorities: []dnsmessage.Resource{record("www.example.com.", dnsmessage.ClassINET, "value")},
	})
	if m.RCode != dnsmessage.RCodeRefused || len(ca.TXT("www.example.com")) != 0 {
		t.Errorf("%v, records %q", m.RCode, ca.TXT("www.example.com"))
	}
}
