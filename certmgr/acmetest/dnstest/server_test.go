package dnstest_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/acme"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/acmetest/dnstest"
)

// start starts a CA and its DNS server.
func start(t *testing.T) (*acmetest.Server, *dnstest.Server) {
	t.Helper()
	ca := acmetest.NewMemoryServer()
	dns := dnstest.NewServer(ca)
	t.Cleanup(func() {
		dns.Close()
		ca.Close()
	})
	return ca, dns
}

// resolver asks only the server, over network, or over both if that is empty.
func resolver(dns *dnstest.Server, network string) *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, chosen, _ string) (net.Conn, error) {
		if network != "" {
			chosen = network
		}
		return new(net.Dialer).DialContext(ctx, chosen, dns.Addr)
	}}
}

// TestRecords asks for every kind of record, over UDP and TCP.
func TestRecords(t *testing.T) {
	ca, dns := start(t)
	long := strings.Repeat("x", 600)
	ca.AddTXT("_acme-challenge.www.example.com", "one")
	ca.AddTXT("_acme-challenge.WWW.example.com.", "two")
	ca.AddTXT("long.example.com", long)
	ca.SetCNAME("_acme-challenge.alias.example.com", "_acme-challenge.www.example.com")
	ca.Resolve("www.example.com", acmetest.Target{HTTPAddr: "127.0.0.5:80", TLSAddr: "[2001:db8::1]:443"})
	ca.Resolve("*.any.example.com", acmetest.Target{})
	for _, network := range []string{"udp", "tcp"} {
		r := resolver(dns, network)
		for _, test := range []struct {
			what string
			got  func(context.Context) ([]string, error)
			want []string
		}{
			{"TXT", txt(r, "_acme-challenge.www.example.com."), []string{"one", "two"}},
			{"TXT in another case", txt(r, "_ACME-challenge.www.Example.COM."), []string{"one", "two"}},
			{"TXT by CNAME", txt(r, "_acme-challenge.alias.example.com."), []string{"one", "two"}},
			{"TXT in several strings", txt(r, "long.example.com."), []string{long}},
			{"addresses", host(r, "www.example.com."), []string{"127.0.0.5", "2001:db8::1"}},
			{"address of a Target without one", host(r, "x.any.example.com."), []string{"127.0.0.1"}},
		} {
			got, err := test.got(t.Context())
			slices.Sort(got)
			if err != nil || !slices.Equal(got, test.want) {
				t.Errorf("%s over %s: %q, %v; want %q", test.what, network, got, err, test.want)
			}
		}
		for _, name := range []string{"unknown.example.com.", "x.y.any.example.com."} {
			_, err := r.LookupHost(t.Context(), name)
			if notFound, ok := errors.AsType[*net.DNSError](err); !ok || !notFound.IsNotFound {
				t.Errorf("%s over %s: %v, want not found", name, network, err)
			}
		}
		if cname, err := r.LookupCNAME(t.Context(), "www.example.com."); err != nil || cname != "www.example.com." {
			t.Errorf("CNAME over %s: %q, %v", network, cname, err)
		}
		if ns, err := r.LookupNS(t.Context(), "example.com."); err != nil || len(ns) != 1 {
			t.Errorf("NS over %s: %v, %v", network, ns, err)
		}
	}
}

func txt(r *net.Resolver, name string) func(context.Context) ([]string, error) {
	return func(ctx context.Context) ([]string, error) { return r.LookupTXT(ctx, name) }
}

func host(r *net.Resolver, name string) func(context.Context) ([]string, error) {
	return func(ctx context.Context) ([]string, error) { return r.LookupHost(ctx, name) }
}

// TestTooLongForUDP: a client is told to use TCP, and does.
func TestTooLongForUDP(t *testing.T) {
	ca, dns := start(t)
	const n = 60
	for i := range n {
		ca.AddTXT("many.example.com", fmt.Sprintf("%050d", i))
	}
	got, err := resolver(dns, "").LookupTXT(t.Context(), "many.example.com.")
	if err != nil || len(got) != n {
		t.Errorf("%d records, %v; want %d", len(got), err, n)
	}
	query := dnsmessage.Message{Questions: []dnsmessage.Question{question("many.example.com.", dnsmessage.TypeTXT)}}
	if m := exchange(t, dns, query); !m.Truncated || len(m.Answers) != 0 {
		t.Errorf("over UDP: truncated %v, %d answers", m.Truncated, len(m.Answers))
	}
}

// TestZone: clients find the zone to update by its SOA record.
func TestZone(t *testing.T) {
	_, dns := start(t)
	for _, test := range []struct {
		name, zone string // zone of the SOA record
		answer     bool   // or in the authority section
	}{
		{"_acme-challenge.www.example.com.", "example.com.", false},
		{"example.com.", "example.com.", true},
		{"com.", "com.", true},
		{".", ".", false},
		{"*.example.com.", ".", false},
		{"192.0.2.1.", ".", false},
	} {
		m := exchange(t, dns, dnsmessage.Message{Questions: []dnsmessage.Question{question(test.name, dnsmessage.TypeSOA)}})
		list := m.Authorities
		if test.answer {
			list = m.Answers
		}
		if len(list) != 1 || list[0].Header.Type != dnsmessage.TypeSOA || list[0].Header.Name.String() != test.zone || !m.Authoritative {
			t.Errorf("SOA of %s: %v", test.name, m.GoString())
		}
	}
}

func question(name string, typ dnsmessage.Type) dnsmessage.Question {
	return dnsmessage.Question{Name: dnsmessage.MustNewName(name), Type: typ, Class: dnsmessage.ClassINET}
}

// exchange sends a message over UDP and returns the reply.
func exchange(t *testing.T, dns *dnstest.Server, m dnsmessage.Message) dnsmessage.Message {
	t.Helper()
	m.ID = 4711
	out, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("udp", dns.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write(out); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 1<<16)
	n, err := conn.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	var reply dnsmessage.Message
	if err := reply.Unpack(buf[:n]); err != nil {
		t.Fatal(err)
	}
	if reply.ID != m.ID || !reply.Response || reply.OpCode != m.OpCode {
		t.Fatalf("reply %v", reply.GoString())
	}
	return reply
}

// TestStart: what cannot work is an error, and Close is harmless.
func TestStart(t *testing.T) {
	ca, dns := start(t)
	for name, s := range map[string]*dnstest.Server{
		"no CA":               {},
		"an address in use":   {CA: ca, Addr: dns.Addr},
		"not an address":      {CA: ca, Addr: "localhost"},
		"an address not here": {CA: ca, Addr: "192.0.2.1:0"},
	} {
		if err := s.Start(); err == nil {
			t.Errorf("%s: started at %s", name, s.Addr)
		}
		s.Close()
	}
	conn, err := net.Dial("tcp", dns.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	dns.Close() // with an idle connection
	dns.Close()
}

// TestValidationAsksDNSServer: a CA validates dns-01 by the records of a DNS
// server, and says what it did not find there.
func TestValidationAsksDNSServer(t *testing.T) {
	records, dns := start(t)
	ca := acmetest.NewUnstartedServer()
	ca.DNSServer, ca.ValidateInReply = dns.Addr, acmetest.Always
	ca.Start()
	defer ca.Close()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	client := &acme.Client{DirectoryURL: ca.URL, HTTPClient: ca.Client(), Key: key}
	if _, err := client.Register(t.Context(), &acme.Account{}, acme.AcceptTOS); err != nil {
		t.Fatal(err)
	}
	validate := func(host string, publish func(record string)) error {
		order, err := client.AuthorizeOrder(t.Context(), acme.DomainIDs(host))
		if err != nil {
			t.Fatal(err)
		}
		authorization, err := client.GetAuthorization(t.Context(), order.AuthzURLs[0])
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(authorization.Challenges, func(c *acme.Challenge) bool { return c.Type == "dns-01" })
		record, err := client.DNS01ChallengeRecord(authorization.Challenges[i].Token)
		if err != nil {
			t.Fatal(err)
		}
		publish(record)
		if _, err := client.Accept(t.Context(), authorization.Challenges[i]); err != nil {
			t.Fatal(err)
		}
		_, err = client.WaitAuthorization(t.Context(), authorization.URI)
		return err
	}
	records.SetCNAME("_acme-challenge.alias.example.com", "elsewhere.example.net")
	for host, name := range map[string]string{
		"www.example.com":    "_acme-challenge.www.example.com",
		"*.star.example.com": "_acme-challenge.star.example.com",
		"alias.example.com":  "elsewhere.example.net",
	} {
		if err := validate(host, func(record string) { records.AddTXT(name, record) }); err != nil {
			t.Errorf("%s: %v", host, err)
		}
	}
	if err := validate("none.example.com", func(string) {}); err == nil || !strings.Contains(err.Error(), "no TXT record found") {
		t.Errorf("without a record: %v", err)
	}
	records.AddTXT("_acme-challenge.wrong.example.com", "wrong")
	if err := validate("wrong.example.com", func(string) {}); err == nil || !strings.Contains(err.Error(), "unauthorized") {
		t.Errorf("with a wrong record: %v", err)
	}
	dns.Close()
	if err := validate("gone.example.com", func(string) {}); err == nil || !strings.Contains(err.Error(), dns.Addr) {
		t.Errorf("without a DNS server: %v", err)
	}
}
