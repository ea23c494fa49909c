package acmeclient

import (
	"cmp"
	"net/http"
	"slices"
	"sync"
)

// maxStatuses is how many statuses are counted separately for each endpoint.
// CAs use about a dozen; one that uses all of them must not create a metric for
// each.
const maxStatuses = 32

// A Count is the number of requests to an endpoint with one outcome.
type Count struct {
	Endpoint Endpoint // never EndpointNone
	Status   int      // HTTP status of the response; 0 if there was none, or its status is not from 100 to 599
	Requests uint64   // at least 1
}

// Counts returns the requests sent over the network since New, by endpoint and
// status, sorted. Each retry counts, once it has ended; responses from memory
// do not. Followed redirects are one request with the status of the last
// response. A response whose body could not be read counts by its status.
// Beyond 32 statuses of an endpoint, others count as the first of their class
// (RFC 9110, section 15): 418 as 400.
func (ca *CA) Counts() []Count { return ca.counts.all() }

// counts counts requests. The zero value is empty. It is safe for concurrent
// use and of bounded size.
type counts struct {
	mu         sync.Mutex // never held across I/O
	byEndpoint map[Endpoint]map[int]uint64
}

// add counts a request to e. res is nil if there was no response.
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
