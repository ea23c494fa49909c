package integration

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/acmetest/dnstest"
)

const (
	tsigKey    = "key.example.com."
	tsigSecret = "c2VjcmV0IG9mIGEgdGVzdA==" // base64
)

// TestSignedUpdates: a client with a TSIG implementation of its own updates a
// record, over UDP and TCP, and verifies the signature of the reply.
func TestSignedUpdates(t *testing.T) {
	ca := acmetest.NewMemoryServer()
	defer ca.Close()
	server := &dnstest.Server{CA: ca, Keys: map[string][]byte{"KEY.example.com": []byte("secret of a test")}}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	const name = "_acme-challenge.www.example.com."
	update := func(network, algorithm, secret string, key string, signed time.Time) (*dns.Msg, error) {
		m := new(dns.Msg).SetUpdate("example.com.")
		record, err := dns.NewRR(name + ` 60 IN TXT "` + strings.TrimSuffix(algorithm, ".") + network + `"`)
		if err != nil {
			t.Fatal(err)
		}
		m.Insert([]dns.RR{record})
		m.SetTsig(key, algorithm, 300, signed.Unix())
		client := &dns.Client{Net: network, TsigSecret: map[string]string{key: secret}}
		reply, _, err := client.Exchange(m, server.Addr)
		return reply, err
	}
	for _, network := range []string{"udp", "tcp"} {
		for _, algorithm := range []string{dns.HmacSHA1, dns.HmacSHA224, dns.HmacSHA256, dns.HmacSHA384, dns.HmacSHA512} {
			reply, err := update(network, algorithm, tsigSecret, tsigKey, time.Now())
			if err != nil || reply.Rcode != dns.RcodeSuccess || reply.IsTsig() == nil {
				t.Errorf("%s over %s: %v, %v", algorithm, network, reply, err)
			}
			if want := strings.TrimSuffix(algorithm, ".") + network; !slices.Contains(ca.TXT(name), want) {
				t.Errorf("%s over %s: records %q", algorithm, network, ca.TXT(name))
			}
		}
	}
	before := ca.TXT(name)
	for what, test := range map[string]struct {
		key, secret string
		signed      time.Time
		want        uint16
	}{
		"another key":     {"other.example.com.", tsigSecret, time.Now(), dns.RcodeBadKey},
		"a wrong secret":  {tsigKey, "d3Jvbmc=", time.Now(), dns.RcodeBadSig},
		"from the past":   {tsigKey, tsigSecret, time.Now().Add(-time.Hour), dns.RcodeBadTime},
		"from the future": {tsigKey, tsigSecret, time.Now().Add(time.Hour), dns.RcodeBadTime},
	} {
		// The client does not accept the signature of some of these replies.
		reply, err := update("tcp", dns.HmacSHA256, test.secret, test.key, test.signed)
		if reply == nil || reply.Rcode != dns.RcodeNotAuth || reply.IsTsig() == nil || reply.IsTsig().Error != test.want {
			t.Errorf("%s: %v, %v", what, reply, err)
		}
	}
	if got := ca.TXT(name); !slices.Equal(got, before) {
		t.Errorf("records %q after refused updates, want %q", got, before)
	}
}
