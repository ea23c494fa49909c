package status

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/nostall/nostall/certmgr"
)

// find returns the hosts that match q's filter, in their order.
func find(hosts []certmgr.HostStatus, q query) []*certmgr.HostStatus {
	found := make([]*certmgr.HostStatus, 0, len(hosts))
	for i := range hosts {
		h := &hosts[i]
		switch {
		case q.host != "" && h.Host != q.host,
			q.text != "" && !strings.Contains(h.Host, q.text),
			q.state == attention && !needsAttention(h),
			q.cause != "" && causeKey(h) != q.cause,
			q.state != "" && q.state != attention && string(h.State) != q.state:
			continue
		}
		found = append(found, h)
	}
	return found
}

// arrange sorts hosts as q says, and equal ones by name and key type.
func arrange(hosts []*certmgr.HostStatus, q query) {
	sign := 1
	if q.reverse {
		sign = -1
	}
	slices.SortFunc(hosts, func(a, b *certmgr.HostStatus) int {
		if c := missing(a, b, q.sort); c != 0 {
			return c
		}
		if c := compare(a, b, q.sort); c != 0 {
			return sign * c
		}
		if c := strings.Compare(a.Host, b.Host); c != 0 {
			return c
		}
		return strings.Compare(a.KeyType, b.KeyType)
	})
}

// compare compares two hosts for a sort order.
func compare(a, b *certmgr.HostStatus, sort string) int {
	switch sort {
	case sortHost:
		return strings.Compare(a.Host, b.Host)
	case sortExpiry:
		return a.NotAfter.Compare(b.NotAfter)
	case sortNext:
		return next(a).Compare(next(b))
	case sortRefused:
		return cmp.Compare(b.Refused, a.Refused)
	}
	if c := cmp.Compare(severity(a), severity(b)); c != 0 || a.State == certmgr.StateValid {
		return c
	}
	return cmp.Compare(b.Refused, a.Refused) // of hosts that are equally bad, what matters most
}

// missing sorts hosts without the time in question last, in either order.
func missing(a, b *certmgr.HostStatus, sort string) int {
	var of func(*certmgr.HostStatus) time.Time
	switch sort {
	case sortExpiry:
		of = func(h *certmgr.HostStatus) time.Time { return h.NotAfter }
	case sortNext:
		of = next
	default:
		return 0
	}
	switch aless, bless := of(a).IsZero(), of(b).IsZero(); {
	case aless && !bless:
		return 1
	case bless && !aless:
		return -1
	}
	return 0
}

// severity ranks hosts by how badly they serve clients; 0 is the worst.
func severity(h *certmgr.HostStatus) int {
	switch h.State {
	case certmgr.StateExpired:
		return 0
	case certmgr.StatePaused: // somebody has to act
		return 1
	case certmgr.StateRejected:
		return 2
	case certmgr.StateWaitingForDNS:
		return 3
	case certmgr.StateBackoff:
		return 4
	case certmgr.StateFailed:
		return 5
	case certmgr.StateIssuing:
		return 6
	case certmgr.StateValid:
		if h.IsLate() {
			return 7
		}
		return 8
	}
	return 0 // unknown state: needs attention
}
