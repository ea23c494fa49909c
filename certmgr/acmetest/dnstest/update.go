package dnstest

import (
	"errors"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

// classNone marks the removal of one record in an update (RFC 2136, section
// 2.5.4).
const classNone dnsmessage.Class = 254

// update performs an update of TXT records (RFC 2136), wholly or not at all.
func (s *Server) update(r *request, signed bool) dnsmessage.RCode {
	switch {
	case s.Keys != nil && !signed:
		return dnsmessage.RCodeRefused
	case r.question.Type != dnsmessage.TypeSOA || r.question.Class != dnsmessage.ClassINET:
		return dnsmessage.RCodeFormatError
	}
	if _, err := r.parser.AnswerHeader(); !errors.Is(err, dnsmessage.ErrSectionDone) {
		return dnsmessage.RCodeNotImplemented // prerequisites
	}
	zone := lower(r.question.Name)
	var changes []func()
	for {
		header, err := r.parser.AuthorityHeader()
		if errors.Is(err, dnsmessage.ErrSectionDone) {
			break
		}
		if err != nil {
			return dnsmessage.RCodeFormatError
		}
		change, rcode := s.change(r.parser, header, zone)
		if rcode != dnsmessage.RCodeSuccess {
			return rcode
		}
		changes = append(changes, change)
	}
	for _, change := range changes {
		change()
	}
	return dnsmessage.RCodeSuccess
}

// change reads one record of the update section and returns what it demands
// (RFC 2136, section 2.5).
func (s *Server) change(p *dnsmessage.Parser, h dnsmessage.ResourceHeader, zone string) (func(), dnsmessage.RCode) {
	name := lower(h.Name)
	switch {
	case name != zone && !strings.HasSuffix(name, "."+zone) && zone != ".":
		return nil, notZone
	case !canHaveRecords(name):
		return nil, dnsmessage.RCodeRefused
	case h.Class == dnsmessage.ClassANY && (h.Type == dnsmessage.TypeTXT || h.Type == dnsmessage.TypeALL) && h.Length == 0:
		if p.SkipAuthority() != nil {
			return nil, dnsmessage.RCodeFormatError
		}
		return func() {
			for _, value := range s.CA.TXT(name) {
				s.CA.RemoveTXT(name, value)
			}
		}, dnsmessage.RCodeSuccess
	case h.Type != dnsmessage.TypeTXT:
		return nil, dnsmessage.RCodeRefused
	}
	txt, err := p.TXTResource()
	value := strings.Join(txt.TXT, "")
	switch {
	case err != nil:
		return nil, dnsmessage.RCodeFormatError
	case h.Class == dnsmessage.ClassINET:
		return func() { s.CA.AddTXT(name, value) }, dnsmessage.RCodeSuccess
	case h.Class == classNone:
		return func() { s.CA.RemoveTXT(name, value) }, dnsmessage.RCodeSuccess
	default:
		return nil, dnsmessage.RCodeFormatError
	}
}
