package certmgr

import (
	"slices"
	"strings"

	"github.com/nostall/nostall/internal/bundle"
	"github.com/nostall/nostall/internal/hosts"
)

// subject identifies a certificate: its names, its key type and the CA's
// directory. It is comparable. A name leads to its subjects by env.subject.
type subject struct {
	identifiers string // sorted and comma-joined, as "dns:a.example.com,ip:192.0.2.1"; of a group, that of its first name
	group       bool   // the certificate is that of a group: see groups
	alg         bundle.Algorithm
	ca          string
}

// subject returns the subject of the certificate with a key type for a host. It
// is the only place that knows which other names the certificate has.
func (e *env) subject(host string, alg bundle.Algorithm) subject {
	own := e.ownSubject(host, alg)
	if g := e.settings.hosts.group(host); g != nil && e.groups.current != nil {
		if sub := e.groupSubject(g, alg); !e.groups.isApart(own, sub) {
			return sub
		}
	}
	return own
}

// ownSubject returns the subject of the certificate for a host alone.
func (e *env) ownSubject(host string, alg bundle.Algorithm) subject {
	return newSubject(alg, e.dir, host)
}

// newSubject returns the subject of a certificate for names in normal form.
func newSubject(alg bundle.Algorithm, ca string, names ...string) subject {
	ids := make([]string, len(names))
	for i, name := range names {
		ids[i] = identifierType(name) + ":" + name
	}
	slices.Sort(ids)
	return subject{identifiers: strings.Join(ids, ","), alg: alg, ca: ca}
}

// identifierType returns the type of an ACME identifier with a name: "ip" (RFC
// 8738) or "dns" (RFC 8555, section 9.7.7).
func identifierType(name string) string {
	if hosts.IsAddress(name) {
		return "ip"
	}
	return "dns"
}

// id returns the host, or the name under which records of a group are kept. It is
// no host name, and in the keys of what is kept for the subject outside memory.
func (s subject) id() string {
	if s.group {
		return s.host() + groupSuffix
	}
	return s.host()
}

// groupSuffix ends the id of a group.
const groupSuffix = "+group"

// hostOfID returns the host of an id, and whether it is that of a group.
func hostOfID(id string) (host string, group bool) { return strings.CutSuffix(id, groupSuffix) }

// host returns the first name. Events and errors name it.
func (s subject) host() string {
	first, _, _ := strings.Cut(s.identifiers, ",")
	return nameOf(first)
}

// names returns all names.
func (s subject) names() []string {
	names := strings.Split(s.identifiers, ",")
	for i, id := range names {
		names[i] = nameOf(id)
	}
	return names
}

// nameOf returns the name of an identifier. That of an IPv6 address has colons.
func nameOf(identifier string) string {
	_, name, _ := strings.Cut(identifier, ":")
	return name
}

// withAlgorithm returns the subject of the certificate for the same names with
// another key type.
func (s subject) withAlgorithm(alg bundle.Algorithm) subject {
	s.alg = alg
	return s
}

// key is a unique string for the subject. It is not meant to be parsed.
func (s subject) key() string {
	return s.id() + " " + s.identifiers + " " + s.alg.String() + " " + s.ca
}

// String is for errors. It omits the CA, which errors name where it matters.
func (s subject) String() string {
	if s.group {
		return "the group of " + s.host() + " (" + s.alg.String() + ")"
	}
	return s.host() + " (" + s.alg.String() + ")"
}

// cacheKey returns autocert's key for the subject's certificate. autocert has
// none for an address, whose colons become underscores. For
// the certificate of a group see groupCacheKey.
func (s subject) cacheKey() string {
	key := hosts.Key(s.host())
	if s.alg == bundle.RSA {
		return key + "+rsa"
	}
	return key
}
