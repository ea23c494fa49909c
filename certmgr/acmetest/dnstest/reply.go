package dnstest

import (
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

const (
	opQuery  dnsmessage.OpCode = 0
	opUpdate dnsmessage.OpCode = 5 // RFC 2136, section 1.3

	notAuth dnsmessage.RCode = 9  // RFC 2136, section 2.2
	notZone dnsmessage.RCode = 10 // RFC 2136, section 2.2
)

const (
	minUDP = 512  // RFC 1035, section 4.2.1
	maxUDP = 1232 // fits into one packet everywhere
)

// request is a message to the server.
type request struct {
	question dnsmessage.Question // of an update, its zone
	parser   *dnsmessage.Parser  // after the question
	limit    int                 // of the size of the reply
	edns     bool
}

// reply returns the reply to a message, or nil if there is to be none. It is
// not longer than limit, or what the client says that it takes over UDP.
func (s *Server) reply(msg []byte, limit int) []byte {
	var p dnsmessage.Parser
	header, err := p.Start(msg)
	if err != nil || header.Response {
		return nil
	}
	answer := dnsmessage.Message{Header: dnsmessage.Header{
		ID:                 header.ID,
		Response:           true,
		OpCode:             header.OpCode,
		Authoritative:      true,
		RecursionDesired:   header.RecursionDesired,
		RecursionAvailable: true, // every name is known here
	}}
	questions, err := p.AllQuestions()
	if err != nil || len(questions) != 1 {
		answer.RCode = dnsmessage.RCodeFormatError
		return pack(&answer, nil)
	}
	answer.Questions = questions
	r := &request{question: questions[0], parser: &p, limit: limit}
	r.readEDNS()
	signature, rcode := s.verify(msg, time.Now())
	switch {
	case rcode != dnsmessage.RCodeSuccess:
		answer.RCode = rcode
	case header.OpCode == opUpdate:
		answer.RCode = s.update(r, signature != nil)
	case header.OpCode != opQuery:
		answer.RCode = dnsmessage.RCodeNotImplemented
	case r.question.Class != dnsmessage.ClassINET && r.question.Class != dnsmessage.ClassANY:
		answer.RCode = dnsmessage.RCodeRefused
	default:
		s.query(r.question, &answer)
	}
	if r.edns {
		var opt dnsmessage.ResourceHeader
		_ = opt.SetEDNS0(maxUDP, dnsmessage.RCodeSuccess, false)
		answer.Additionals = append(answer.Additionals, dnsmessage.Resource{Header: opt, Body: &dnsmessage.OPTResource{}})
	}
	out := pack(&answer, signature)
	if len(out) > r.limit {
		answer.Truncated, answer.Answers, answer.Authorities = true, nil, nil
		out = pack(&answer, signature)
	}
	return out
}

// readEDNS looks for the OPT record (RFC 6891) among the additional records.
func (r *request) readEDNS() {
	p := *r.parser // a copy: updates read the same sections
	if p.SkipAllAnswers() != nil || p.SkipAllAuthorities() != nil {
		return
	}
	for {
		header, err := p.AdditionalHeader()
		if err != nil {
			return
		}
		if header.Type == dnsmessage.TypeOPT {
			r.edns = true
			if r.limit == minUDP {
				r.limit = min(max(int(header.Class), minUDP), maxUDP)
			}
		}
		if p.SkipAdditional() != nil {
			return
		}
	}
}

// pack returns a message in wire format, signed if its request was. A message
// that cannot be packed is a failure of the server.
func pack(m *dnsmessage.Message, t *tsig) []byte {
	out, err := m.Pack()
	if err != nil {
		m.RCode, m.Answers, m.Authorities, m.Additionals = dnsmessage.RCodeServerFailure, nil, nil, nil
		if out, err = m.Pack(); err != nil {
			return nil
		}
	}
	if t == nil {
		return out
	}
	return t.sign(out, time.Now())
}
