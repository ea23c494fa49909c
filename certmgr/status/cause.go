package status

import (
	"cmp"
	"errors"
	"slices"
	"strings"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/text"
)

// runbook is the public address of the runbook, with the part of it still to
// come.
const runbook = "https://github.com/nostall/nostall/blob/main/docs/runbook.md#"

// cause is a kind of failure: what it is, and what to do about it first. The CA's
// own words are with each host.
type cause struct {
	key    string // in the JSON form and in the parameter cause
	title  string
	help   string
	anchor string // of its entry in the runbook
}

// link returns the address of the runbook's entry.
func (c *cause) link() string { return runbook + c.anchor }

// causes holds all causes by their keys. It is never modified.
var causes = newCauses()

func newCauses() map[string]*cause {
	list := []cause{
		{"caa", "The domain's CAA records do not allow this CA",
			"Add a CAA record for this CA to the domain, or remove those that exclude it. Then have the hosts tried again.", "issuance_failed"},
		{"paused", "The CA has paused the name after too many failures",
			"Unpause it on the CA's page, then have the host tried again.", "issuance_failed"},
		{"rejected", "The CA does not certify this name",
			"Take the name off the list, or use another CA.", "issuance_failed"},
		{"elsewhere", "The name does not lead to this server",
			"Point its A and AAAA records here, or take it off the list. It is probed, and a certificate is ordered once it leads here.", "waiting_for_dns"},
		{"unreachable", "A check found that the name does not lead to this server",
			"Point its A and AAAA records here, or take it off the list. If they do lead here, set Manager.PreflightDial.", "host_unreachable"},
		{"clock", "The clock of this machine is wrong",
			"Set the clock and keep it set (NTP). The certificate has been kept and is served as soon as the clock is right.", "errclock"},
		{"account", "There is no account with the CA",
			"The error says which setting is wrong, or what the CA waits for. Correct it, then restart.", "account_unavailable"},
		{"key", "Manager.KeySource returns no key that can be used",
			"The error has its own words. Attempts go on by themselves, and no order is placed meanwhile.", "errkeysource"},
		{"cache", "The cache cannot be read or written",
			"Look at the cache's server or disk, its permissions and its free space. Do not empty it.", "errcache"},
		{"limit", "A rate limit of the CA is reached",
			"Wait: the next attempt is after the time that the CA asks for. If it repeats, find out what else orders these names.", "certmgrratelimited"},
		{"dns", "The CA cannot look the name up in DNS",
			"Check that the name has an A or AAAA record, that all name servers of the domain answer, and DNSSEC.", "issuance_failed"},
		{"connection", "The CA cannot connect to this server",
			"Open ports 443 and 80 to everyone, and check where the name's A and AAAA records lead.", "issuance_failed"},
		{"otherserver", "Another server answered the CA's challenge",
			"Point the name's A and AAAA records here, or take it off the list if it has moved. Look for a proxy or balancer in front.", "issuance_failed"},
		{"ca", "The CA is not available",
			"Check the CA's status page, and the way from this machine to the CA. Attempts go on by themselves.", "ca_unavailable"},
		{"queue", "No slot for an issuance became free",
			"Take hosts that fail off the list, or raise Manager.MaxIssuing.", "certmgrissuancesqueued"},
		{"order", "The CA refused the order", "The CA's words below say why.", "issuance_failed"},
		{"challenge", "The CA could not validate the name",
			"Check that the name leads here and that ports 443 and 80 are open. The CA's words below say what it found.", "issuance_failed"},
		{"finalize", "The CA did not issue the certificate", "The CA's words below say why. Attempts go on by themselves.", "issuance_failed"},
		{"expired", "The certificate has expired",
			"The next visitor begins an attempt; Manager.Renew makes one at once. If the host has moved away, take it off the list.", "certificate_expired"},
		{"own", "Your own certificate ends, and nothing takes its place",
			"Put its successor in its place, or the host on the list, so that the CA issues one.", "own_certificate_expiring"},
		{"other", "The attempt failed", "The error below says why.", "issuance_failed"},
	}
	all := make(map[string]*cause, len(list))
	for i := range list {
		all[list[i].key] = &list[i]
	}
	return all
}

// problems maps the CA's problem types (RFC 8555, section 6.7), in lower case,
// to the keys of causes, those first that say most.
var problems = [...]struct{ kind, key string }{
	{"caa", "caa"}, {"rejectedidentifier", "rejected"}, {"unsupportedidentifier", "rejected"}, {"ratelimited", "limit"},
	{"dns", "dns"}, {"connection", "connection"}, {"tls", "otherserver"}, {"incorrectresponse", "otherserver"},
	{"unauthorized", "otherserver"}, {"serverinternal", "ca"},
}

// sentinels maps errors of certmgr to the keys of causes. It is never modified.
var sentinels = [...]struct {
	err error
	key string
}{
	{certmgr.ErrClock, "clock"}, {certmgr.ErrNoAccount, "account"}, {certmgr.ErrUnreachable, "unreachable"},
	{certmgr.ErrKeySource, "key"}, {certmgr.ErrCache, "cache"}, {certmgr.ErrCAUnavailable, "ca"}, {certmgr.ErrBusy, "queue"},
}

// causeKey returns the key of the cause of a host that needs attention, or "".
func causeKey(h *certmgr.HostStatus) string {
	if !needsAttention(h) {
		return ""
	}
	err := h.Cause()
	switch {
	case h.Source != "" && h.Failure == nil:
		return "own"
	case err == nil:
		return "expired"
	}
	var stage audit.Stage
	if f := h.Failure; f != nil {
		stage = f.Stage
		switch {
		case f.State == certmgr.StateWaitingForDNS:
			return "elsewhere"
		case f.State == certmgr.StatePaused:
			return "paused"
		case f.State == certmgr.StateRejected && !slices.Contains(problemKinds(f.Err), "caa"):
			return "rejected"
		}
	}
	return errorKey(err, stage)
}

// errorKey returns the key of the cause of an error.
func errorKey(err error, stage audit.Stage) string {
	if f, ok := err.(*certmgr.IssuanceError); ok {
		err = f.Err // whose text is made faster
	}
	for _, known := range sentinels {
		if errors.Is(err, known.err) {
			return known.key
		}
	}
	kinds := problemKinds(err)
	for _, p := range problems {
		if slices.Contains(kinds, p.kind) {
			if p.key == "otherserver" && stage == audit.StageOrder {
				return "order" // it is the CA's policy then, and not a challenge
			}
			return p.key
		}
	}
	switch stage {
	case audit.StageQueue:
		return "queue"
	case audit.StageAccount:
		return "ca"
	case audit.StageKey:
		return "key"
	case audit.StagePreflight:
		return "unreachable"
	case audit.StageOrder:
		return "order"
	case audit.StageAuthorization, audit.StageChallenge:
		return "challenge"
	case audit.StageFinalize:
		return "finalize"
	case audit.StageStore:
		return "cache"
	}
	return "other"
}

// problemKinds returns the types of the CA's problems in an error, in lower
// case. Of a failure from before a restart there is no more than a text.
func problemKinds(err error) (kinds []string) {
	for _, p := range text.Problems(err) {
		kinds = append(kinds, problemKind(p.ProblemType))
		for _, sub := range p.Subproblems {
			kinds = append(kinds, problemKind(sub.Type))
		}
	}
	if kinds != nil || err == nil {
		return kinds
	}
	const urn = "urn:ietf:params:acme:error:"
	said := text.Of(err)
	for len(kinds) < maxKinds {
		_, rest, found := strings.Cut(said, urn)
		if !found {
			break
		}
		end := strings.IndexFunc(rest, func(r rune) bool { return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') })
		if end < 0 {
			end = len(rest)
		}
		kinds, said = append(kinds, strings.ToLower(rest[:end])), rest[end:]
	}
	return kinds
}

// maxKinds is how many problem types are looked for in a text.
const maxKinds = 8

func problemKind(urn string) string {
	return strings.ToLower(urn[strings.LastIndexByte(urn, ':')+1:])
}

// group holds the hosts that need attention for the same cause.
type group struct {
	*cause
	hosts   []*certmgr.HostStatus // those whose visitors are refused most first
	refused uint64                // handshakes
	names   int                   // hosts, of which one may have two key types
	failing bool                  // whether visitors of any are refused
}

// groupHosts returns the causes of all hosts that need attention, those first
// that refuse the most visitors.
func groupHosts(hosts []certmgr.HostStatus) []*group {
	byKey := make(map[string]*group)
	for i := range hosts {
		h := &hosts[i]
		key := causeKey(h)
		if key == "" {
			continue
		}
		g := byKey[key]
		if g == nil {
			g = &group{cause: causes[key]}
			byKey[key] = g
		}
		if n := len(g.hosts); n == 0 || g.hosts[n-1].Host != h.Host { // a Snapshot is sorted, and counts visitors by host
			g.refused += h.Refused
			g.names++
		}
		g.hosts = append(g.hosts, h)
		g.failing = g.failing || h.IsFailing()
	}
	list := make([]*group, 0, len(byKey))
	for _, g := range byKey {
		slices.SortStableFunc(g.hosts, func(a, b *certmgr.HostStatus) int { return cmp.Compare(b.Refused, a.Refused) })
		list = append(list, g)
	}
	slices.SortFunc(list, func(a, b *group) int {
		return cmp.Or(cmp.Compare(b.refused, a.refused), cmp.Compare(b.names, a.names), strings.Compare(a.key, b.key))
	})
	return list
}
