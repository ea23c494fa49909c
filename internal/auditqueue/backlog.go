package auditqueue

import (
	"slices"

	"github.com/nostall/nostall/certmgr/audit"
)

// entry is an event in a list.
type entry struct {
	audit.Event
	strangers bool
}

const (
	maxQueued  = 4096
	maxRecent  = 32 // failures
	maxHistory = 64 // events of all kinds

	// Of these, strangers' events never take more than the following from
	// others. There may be more of them while there is room.
	maxStrangersQueued  = 3072
	maxStrangersRecent  = 8
	maxStrangersHistory = 16
)

// backlog holds the events that wait for the hook. Queue.mu guards it.
type backlog struct {
	entries   []entry
	strangers int    // among them
	dropped   int    // events for which there was no room, since that was last told
	lost      uint64 // the same in all
}

// push appends an event, and reports whether there was room for it.
func (b *backlog) push(e entry) bool {
	if len(b.entries) >= maxQueued || e.strangers && b.strangers >= maxStrangersQueued {
		b.dropped++
		b.lost++
		return false
	}
	b.entries = append(b.entries, e)
	if e.strangers {
		b.strangers++
	}
	return true
}

// pop removes the first event, if there is one.
func (b *backlog) pop() (e entry, ok bool) {
	if len(b.entries) == 0 {
		b.entries = nil
		return entry{}, false
	}
	e = b.entries[0]
	b.entries[0] = entry{}
	b.entries = b.entries[1:]
	if e.strangers {
		b.strangers--
	}
	return e, true
}

// appendLast appends e to list. If there are more than most then, it drops the
// first one; of the strangers' if these are more than share.
func appendLast(list []entry, e entry, most, share int) []entry {
	list = append(list, e)
	if len(list) <= most {
		return list
	}
	first, strangers := 0, 0
	for i := len(list) - 1; i >= 0; i-- {
		if list[i].strangers {
			first = i
			strangers++
		}
	}
	if strangers <= share {
		first = 0
	}
	return slices.Delete(list, first, first+1)
}

func eventsOf(list []entry) (events []audit.Event) {
	for _, e := range list {
		events = append(events, e.Event)
	}
	return events
}
