package certmgr

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"

	"github.com/nostall/nostall/internal/bundle"
	"github.com/nostall/nostall/internal/hosts"
)

// groups knows which certificate a member of a group has. The subject of a group
// has the group's first name, and not the others: so it stays the same while
// names come and go, and with it what is in flight, planned, or has failed. The
// names of an order are chosen when it is placed.
//
// A member is apart, with a subject of its own, while the group's certificate
// lacks it or its own validation has failed last. Then it is a host like any
// other: it has its own order, failure and renewal.
type groups struct {
	// current returns the certificate of a group that is valid, or nil.
	current func(sub subject) *certificate

	// failed reports whether a host's own certificate has failed last, or waits
	// for DNS, or is the operator's, and failing whether that keeps it from being
	// ordered now.
	failed, failing func(own subject) bool
}

// groupSubject returns the subject of a group.
func (e *env) groupSubject(g *hosts.Group, alg bundle.Algorithm) subject {
	sub := e.ownSubject(g.First(), alg)
	sub.group = true
	return sub
}

// isApart reports whether a member of the group of sub has a subject of its own.
func (gs *groups) isApart(own, sub subject) bool {
	if c := gs.current(sub); c != nil && !c.covers(own.host()) {
		return true
	}
	return gs.failed(own)
}

// isIn reports whether the certificate for a host is that of its group.
func (e *env) isIn(host string, sub subject) bool { return e.subject(host, sub.alg) == sub }

// members returns the hosts that share a subject: the members of a group that are
// not apart, or the host.
func (e *env) members(sub subject) []string {
	if !sub.group {
		return []string{sub.host()}
	}
	var in []string
	for _, name := range e.groupOf(sub).Names() {
		if e.isIn(name, sub) {
			in = append(in, name)
		}
	}
	return in
}

// settingsOf returns the settings of a host, and their key: those of a member of a
// group are those of the group's first name. It does not allocate.
func (set *settings) settingsOf(host string) (HostSettings, string) {
	if len(set.hostSettings.byKey) == 0 {
		return HostSettings{}, ""
	}
	if g := set.hosts.group(host); g != nil {
		host = g.First()
	}
	return set.hostSettings.of(host)
}

// hostsOfID returns the hosts that share what is kept under an id.
func (e *env) hostsOfID(id string) []string {
	host, group := hostOfID(id)
	sub := e.ownSubject(host, bundle.ECDSA)
	sub.group = group
	return e.members(sub)
}

// groupOf returns the group of a subject, or nil if there is none any more.
func (e *env) groupOf(sub subject) *hosts.Group {
	if g := e.settings.hosts.group(sub.host()); sub.group && g != nil && g.First() == sub.host() {
		return g
	}
	return nil
}

// namesOf returns all names that an order for a subject may be for.
func (e *env) namesOf(sub subject) []string {
	if names := e.groupOf(sub).Names(); len(names) > 0 {
		return names
	}
	return []string{sub.host()}
}

// namesToOrder returns the names for the next order of a subject. Members that
// back off by themselves, or wait for DNS, are left out, unless that is all of
// them.
func (e *env) namesToOrder(sub subject) []string {
	if !sub.group {
		return []string{sub.host()}
	}
	all := e.groupOf(sub).Names()
	if len(all) == 0 { // it has just ceased to be one
		return []string{sub.host()}
	}
	names := slices.DeleteFunc(slices.Clone(all), func(name string) bool {
		return e.groups.failing(e.ownSubject(name, sub.alg))
	})
	if len(names) == 0 {
		return all
	}
	return names
}

// groupKeyPrefix begins the keys of certificates for several names.
const groupKeyPrefix = "san-"

// groupCacheKey returns the key in the Cache of the certificate for several names.
func groupCacheKey(names []string, alg bundle.Algorithm) string {
	sorted := slices.Sorted(slices.Values(names))
	sum := sha256.Sum256([]byte(strings.Join(sorted, ",")))
	key := groupKeyPrefix + hex.EncodeToString(sum[:])
	if alg == bundle.RSA {
		key += "+rsa"
	}
	return key
}

// isGroupCacheKey reports whether key may be one of groupCacheKey's.
func isGroupCacheKey(key string, alg bundle.Algorithm) bool {
	digits, ok := strings.CutPrefix(key, groupKeyPrefix)
	if alg == bundle.RSA {
		var rsa bool
		digits, rsa = strings.CutSuffix(digits, "+rsa")
		ok = ok && rsa
	}
	sum, err := hex.DecodeString(digits)
	return ok && err == nil && len(sum) == sha256.Size && digits == strings.ToLower(digits)
}

// pointerCacheKey returns the key of the entry that names the key of the
// certificate of a host's group: it is found after a change of the group, too.
func pointerCacheKey(host string, alg bundle.Algorithm) string {
	if alg == bundle.RSA {
		return entryKey(host, "+rsa"+groupSuffix)
	}
	return entryKey(host, groupSuffix)
}
