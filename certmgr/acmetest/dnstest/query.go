package dnstest

import (
	"net/netip"
	"strings"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/nostall/nostall/certmgr/acmetest"
)

const (
	maxCNAMEs = 8   // followed for one question
	maxString = 255 // of a TXT record (RFC 1035, section 3.3.14)
)

// query adds the answer to a question.
func (s *Server) query(q dnsmessage.Question, m *dnsmessage.Message) {
	name := lower(q.Name)
	if !canHaveRecords(name) {
		m.RCode = dnsmessage.RCodeNameError
		m.Authorities = append(m.Authorities, soa("."))
		return
	}
	for range maxCNAMEs {
		alias := s.CA.CNAME(name)
		if alias == "" {
			break
		}
		target, err := dnsmessage.NewName(alias + ".")
		if err != nil {
			m.RCode = dnsmessage.RCodeServerFailure
			return
		}
		add(m, name, dnsmessage.TypeCNAME, &dnsmessage.CNAMEResource{CNAME: target})
		if q.Type == dnsmessage.TypeCNAME {
			return
		}
		name = target.String()
	}
	before := len(m.Answers)
	exists := s.records(name, q.Type, m)
	if len(m.Answers) > before {
		return
	}
	if !exists {
		m.RCode = dnsmessage.RCodeNameError
	}
	m.Authorities = append(m.Authorities, soa(zoneOf(name)))
}

// records adds the records of a name, in lower case, of a type. It reports
// whether the name exists.
func (s *Server) records(name string, typ dnsmessage.Type, m *dnsmessage.Message) (exists bool) {
	zone, values := zoneOf(name), s.CA.TXT(name)
	target, leads := s.CA.Target(name)
	is := func(t dnsmessage.Type) bool { return typ == t || typ == dnsmessage.TypeALL }
	if is(dnsmessage.TypeTXT) {
		for _, value := range values {
			add(m, name, dnsmessage.TypeTXT, &dnsmessage.TXTResource{TXT: split(value)})
		}
	}
	if leads {
		for _, addr := range addresses(target) {
			switch {
			case addr.Is4() && is(dnsmessage.TypeA):
				add(m, name, dnsmessage.TypeA, &dnsmessage.AResource{A: addr.As4()})
			case addr.Is6() && is(dnsmessage.TypeAAAA):
				add(m, name, dnsmessage.TypeAAAA, &dnsmessage.AAAAResource{AAAA: addr.As16()})
			}
		}
	}
	if name == zone && is(dnsmessage.TypeSOA) {
		m.Answers = append(m.Answers, soa(zone))
	}
	if name == zone && is(dnsmessage.TypeNS) {
		add(m, name, dnsmessage.TypeNS, &dnsmessage.NSResource{NS: dnsmessage.MustNewName("localhost.")})
	}
	return leads || len(values) > 0 || name == zone
}

// addresses returns the IP addresses of a target.
func addresses(t acmetest.Target) []netip.Addr {
	var list []netip.Addr
	for _, addr := range []string{t.HTTPAddr, t.TLSAddr} {
		if a, err := netip.ParseAddrPort(addr); err == nil && (len(list) == 0 || list[0] != a.Addr().Unmap()) {
			list = append(list, a.Addr().Unmap())
		}
	}
	if list == nil {
		list = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}
	}
	return list
}

// zoneOf returns the apex of the zone that a name is in: its last two labels.
func zoneOf(name string) string {
	labels := strings.Split(strings.TrimSuffix(name, "."), ".")
	return strings.Join(labels[max(0, len(labels)-2):], ".") + "."
}

// soa returns the SOA record of a zone.
func soa(zone string) dnsmessage.Resource {
	return resource(zone, dnsmessage.TypeSOA, &dnsmessage.SOAResource{
		NS:      dnsmessage.MustNewName("localhost."),
		MBox:    dnsmessage.MustNewName("root.localhost."),
		Serial:  1,
		Refresh: 60,
		Retry:   60,
		Expire:  60,
	})
}

func add(m *dnsmessage.Message, name string, typ dnsmessage.Type, body dnsmessage.ResourceBody) {
	m.Answers = append(m.Answers, resource(name, typ, body))
}

// resource returns a record with a TTL of zero, so that nobody caches it. The
// name is one that was parsed, so it is valid.
func resource(name string, typ dnsmessage.Type, body dnsmessage.ResourceBody) dnsmessage.Resource {
	return dnsmessage.Resource{
		Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(name), Type: typ, Class: dnsmessage.ClassINET},
		Body:   body,
	}
}

// split returns a text as the strings of a TXT record.
func split(value string) []string {
	var list []string
	for len(value) > maxString {
		list, value = append(list, value[:maxString]), value[maxString:]
	}
	return append(list, value)
}
