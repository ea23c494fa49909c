package acmetest

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// maxNames is how many names an order may have, as at Let's Encrypt.
const maxNames = 100

// identifier is the wire form of a name (RFC 8555, section 7.1.3; RFC 8738 for
// type "ip"). Everywhere else names are plain strings: "www.example.com",
// "*.example.com", "192.0.2.1".
type identifier struct {
	Type  string `json:"type"`
	Value string `json:"value"`
}

// identifierOf returns the identifier of a name.
func identifierOf(name string) identifier {
	if isIP(name) {
		return identifier{"ip", name}
	}
	return identifier{"dns", name}
}

func isIP(name string) bool {
	_, err := netip.ParseAddr(name)
	return err == nil
}

// checkIdentifiers returns the names of an order in lower case, sorted, without
// duplicates.
func (s *Server) checkIdentifiers(identifiers []identifier) ([]string, *Problem) {
	if len(identifiers) == 0 {
		return nil, problemf("malformed", "the order has no identifiers")
	}
	if len(identifiers) > maxNames {
		return nil, problemf("malformed", "the order has %d identifiers, more than %d", len(identifiers), maxNames)
	}
	var names []string
	var bad []Subproblem
	for _, id := range identifiers {
		name, problem := s.checkIdentifier(id)
		if problem != nil {
			bad = append(bad, Subproblem{problem.Type, problem.Detail, id.Value})
		}
		names = append(names, name)
	}
	switch {
	case len(bad) == 1:
		return nil, &Problem{Type: bad[0].Type, Detail: bad[0].Detail}
	case len(bad) > 1:
		return nil, &Problem{Type: bad[0].Type, Detail: "several identifiers are refused", Subproblems: bad}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// checkIdentifier returns the name in canonical form.
func (s *Server) checkIdentifier(id identifier) (string, *Problem) {
	switch id.Type {
	case "ip":
		// RFC 8738, section 3, requires the canonical form of RFC 5952.
		if addr, err := netip.ParseAddr(id.Value); err != nil || addr.Zone() != "" || addr.Is4In6() || addr.String() != id.Value {
			return "", problemf("malformed", "%q is not an IP address as RFC 5952 writes it", id.Value)
		}
		if len(s.challengesFor(id.Value)) == 0 {
			return "", problemf("rejectedIdentifier", "%q is an IP address: these need http-01 or tls-alpn-01, which are not offered", id.Value)
		}
		return id.Value, nil
	case "dns":
		name := strings.ToLower(id.Value)
		base, wildcard := strings.CutPrefix(name, "*.")
		if wildcard && len(s.challengesFor(name)) == 0 {
			return "", problemf("rejectedIdentifier", "%q is a wildcard: these need dns-01, which is not offered", name)
		}
		return name, checkName(base)
	default:
		return "", problemf("unsupportedIdentifier", "identifiers of type %q are not supported", id.Type)
	}
}

// checkName checks a DNS name in lower case.
func checkName(host string) *Problem {
	switch {
	case host == "" || len(host) > 253:
		return problemf("malformed", "the name %q has a bad length", host)
	case isIP(host):
		return problemf("malformed", "%q is an IP address and not a DNS name: its identifier has type \"ip\"", host)
	}
	for label := range strings.SplitSeq(host, ".") {
		bad := label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-'
		for i := range len(label) {
			c := label[i]
			bad = bad || c != '-' && (c < 'a' || c > 'z') && (c < '0' || c > '9')
		}
		if bad {
			return problemf("malformed", "the name %q has a bad label %q (write internationalized names as A-labels)", host, label)
		}
		if strings.HasPrefix(label, aLabelPrefix) && !isALabel(label) {
			return problemf("malformed", "the label %q of the name %q is no A-label, in spite of its beginning", label, host)
		}
	}
	switch last := strings.LastIndexByte(host, '.'); {
	case last < 0:
		return problemf("rejectedIdentifier", "the name %q has one label only", host)
	case strings.Trim(host[last+1:], "0123456789") == "":
		return problemf("rejectedIdentifier", "the name %q ends in a number, as no top-level domain does", host)
	}
	return nil
}

// challengeTypes returns the types that this CA knows.
func challengeTypes() []string { return []string{tlsALPN01, http01, dns01} }

// mustBeChallengeType panics if the CA does not know the type.
func mustBeChallengeType(typ string) {
	if all := challengeTypes(); !slices.Contains(all, typ) {
		panic(fmt.Sprintf("acmetest: unknown challenge type %q; the types are %q", typ, all))
	}
}

// challengesFor returns the challenge types offered for a name: dns-01 only for
// a wildcard, as nothing else proves control of all names (Baseline
// Requirements, 3.2.2.4), and no dns-01 for an IP address (RFC 8738, section
// 7).
func (s *Server) challengesFor(name string) []string {
	types := challengeTypes()
	if s.Challenges != nil {
		types = slices.Clone(s.Challenges)
	}
	wildcard, ip := strings.HasPrefix(name, "*."), isIP(name)
	return slices.DeleteFunc(types, func(typ string) bool {
		return wildcard && typ != dns01 || ip && typ == dns01
	})
}
