package acmeclient

import (
	"cmp"
	"net/http"
	"slices"
	"sync"
)

// maxStatuses bounds the statuses that are counted one by one, for each endpoint.
// CAs answer with a dozen or so; one that answers with all there are must not make
// a metric of each.
const maxStatuses = 32

// A Count says how many requests to an endpoint ended in one way.
type Count struct {
	Endpoint Endpoint // never EndpointNone
	Status   int      // HTTP status of the answer; 0: there was none, or none with a status from 100 to 599
	Requests uint64   // at least 1
}

// Counts returns what became of the requests that went to the network since New,
// by endpoint and status, in that order. Each try counts once it has ended. Answers
// from memory do not count. Redirects that were followed are one request, with the
// status of the last answer. An answer whose body could not be read counts by its
// status. Beyond 32 statuses of an endpoint the others count as the first one of
// their class (RFC 9110, section 15): 418 as 400.
func (ca *CA) Counts() []Count { return ca.counts.all() }

// counts counts requests. The zero value is empty. It is safe for concurrent use,
// and bounded whatever the CA answers.
type counts struct {
	mu         sync.Mutex // never held across I/O
	byEndpoint map[Endpoint]map[int]uint64
}

// add counts a request to e; res is nil if there was no answer.
func (c *counts) add(e Endpoint, res *http.Response) {
	status := 0
	if res != nil && res.StatusCode >= 100 && res.StatusCode <= 599 {
		status = res.StatusCode
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byEndpoint == nil {
		c.byEndpoint = make(map[Endpoint]map[int]uint64)
	}
	byStatus := c.byEndpoint[e]
	if byStatus == nil {
		byStatus = make(map[int]uint64)
		c.byEndpoint[e] = byStatus
	}
	if _, known := byStatus[status]; !known && len(byStatus) >= maxStatuses {
		status -= status % 100
	}
	byStatus[status]++
}

func (c *counts) all() []Count {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []Count
	for e, byStatus := range c.byEndpoint {
		for status, n := range byStatus {
			all = append(all, Count{Endpoint: e, Status: status, Requests: n})
		}
	}
	slices.SortFunc(all, func(a, b Count) int {
		return cmp.Or(cmp.Compare(a.Endpoint, b.Endpoint), cmp.Compare(a.Status, b.Status))
	})
	return all
}
