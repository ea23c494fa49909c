package integration

import (
	"context"
	"net"
	"slices"
	"testing"

	"github.com/caddyserver/certmagic"
	"github.com/libdns/libdns"
	"github.com/miekg/dns"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// dnsProvider writes to the CA's table of TXT records, for libdns.
type dnsProvider struct{ ca *acmetest.Server }

var _ certmagic.DNSProvider = dnsProvider{}

// AppendRecords implements [libdns.RecordAppender].
func (p dnsProvider) AppendRecords(_ context.Context, zone string, records []libdns.Record) ([]libdns.Record, error) {
	for _, r := range records {
		rr := r.RR()
		p.ca.AddTXT(libdns.AbsoluteName(rr.Name, zone), rr.Data)
	}
	return records, nil
}

// DeleteRecords implements [libdns.RecordDeleter].
func (p dnsProvider) DeleteRecords(_ context.Context, zone string, records []libdns.Record) ([]libdns.Record, error) {
	for _, r := range records {
		rr := r.RR()
		p.ca.RemoveTXT(libdns.AbsoluteName(rr.Name, zone), rr.Data)
	}
	return records, nil
}

// serveZone runs a name server for the SOA record of a zone, which certmagic
// looks up, and returns its address.
func serveZone(t *testing.T, zone string) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) {
		reply := new(dns.Msg).SetReply(r)
		if q := r.Question[0]; q.Name == zone && q.Qtype == dns.TypeSOA {
			reply.Answer = append(reply.Answer, &dns.SOA{
				Hdr: dns.RR_Header{Name: zone, Rrtype: dns.TypeSOA, Class: dns.ClassINET},
				Ns:  "ns." + zone, Mbox: "root." + zone,
			})
		} else {
			reply.Rcode = dns.RcodeNameError
		}
		_ = w.WriteMsg(reply)
	})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.ActivateAndServe()
	}()
	t.Cleanup(func() {
		conn.Close()
		<-done
	})
	return conn.LocalAddr().String()
}

func TestCertmagicIssuesAndRenewsAWildcardByDNS(t *testing.T) {
	ca := newClientsCA(t, false)
	// The checks whether a record has propagated wait for two seconds.
	solver := &certmagic.DNS01Solver{DNSManager: certmagic.DNSManager{
		DNSProvider:        dnsProvider{ca.Server},
		Resolvers:          []string{serveZone(t, "zone.example.")},
		PropagationTimeout: -1,
	}}
	s := newCertmagicSite(t, ca, storageIn(t.TempDir()), certmagic.ACMEIssuer{DNS01Solver: solver})
	s.manage(t, "*.zone.example", "zone.example")
	leaf := s.visit(t, "www.zone.example", ca.Roots())
	if !slices.Equal(leaf.DNSNames, []string{"*.zone.example"}) {
		t.Errorf("certificate for %q", leaf.DNSNames)
	}
	if err := s.RenewCertSync(t.Context(), "*.zone.example", true); err != nil {
		t.Fatal(err)
	}
	if got, want := ca.lastOrder(t).Replaces, acmetest.CertID(leaf); got != want {
		t.Errorf("the order replaces %q, want %q", got, want)
	}
	if left := ca.TXT("_acme-challenge.zone.example"); len(left) > 0 {
		t.Errorf("TXT records left: %q", left)
	}
}
