package dnstest

import (
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// FuzzReply: no message crashes the server, and every reply is one that a client
// can read.
func FuzzReply(f *testing.F) {
	ca := acmetest.NewMemoryServer()
	f.Cleanup(ca.Close)
	ca.Resolve("*.example.com", acmetest.Target{})
	ca.SetCNAME("alias.example.com", "www.example.com")
	ca.SetCNAME("loop.example.com", "loop.example.com")
	s := &Server{CA: ca, Keys: map[string][]byte{"key": []byte("secret")}}
	zone := []dnsmessage.Question{{Name: dnsmessage.MustNewName("Example.com."), Type: dnsmessage.TypeSOA, Class: dnsmessage.ClassINET}}
	record := dnsmessage.Resource{
		Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName("www.example.com."), Type: dnsmessage.TypeTXT, Class: dnsmessage.ClassINET},
		Body:   &dnsmessage.TXTResource{TXT: []string{"value"}},
	}
	for _, m := range []dnsmessage.Message{
		{Questions: zone},
		{Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName("loop.example.com."), Type: dnsmessage.TypeALL, Class: dnsmessage.ClassANY}}},
		{Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName("\xff\xc3.example.com."), Type: dnsmessage.TypeAAAA, Class: dnsmessage.ClassINET}}},
		{Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName("*.1."), Type: dnsmessage.TypeTXT, Class: dnsmessage.ClassINET}}},
		{Header: dnsmessage.Header{OpCode: opUpdate}, Questions: zone, Authorities: []dnsmessage.Resource{record}},
	} {
		msg, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(msg)
		key := &tsig{name: []byte(wireName("key.")), algorithm: []byte(wireName("hmac-sha256.")), fudge: 300, newHash: macHashes[wireName("hmac-sha256.")], secret: []byte("secret")}
		f.Add(key.sign(msg, time.Now()))
	}
	f.Fuzz(func(t *testing.T, msg []byte) {
		for _, limit := range []int{minUDP, maxMessage} {
			out := s.reply(msg, limit)
			if out == nil {
				continue
			}
			var m dnsmessage.Message
			if err := m.Unpack(out); err != nil {
				t.Fatalf("the reply %x: %v", out, err)
			}
			if _, _, err := findTSIG(out); err != nil {
				t.Fatalf("the reply %x: %v", out, err)
			}
			if limit == minUDP && len(out) > maxUDP {
				t.Fatalf("a reply of %d bytes over UDP", len(out))
			}
		}
	})
}
