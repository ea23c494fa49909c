package acmetest

import (
	"bytes"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Lag is how long a replica of the CA's database stays behind. The first bound
// that is reached ends it; without bounds it lasts until the fault is lifted.
type Lag struct {
	// Reads is the number of reads of a resource that do not see it, or a change
	// of it, yet; zero means no such bound.
	Reads int
	// For is how long reads do not see it; zero means no such bound.
	For time.Duration
}

// isOver reports whether a replica has caught up after so many reads and so
// long.
func (l Lag) isOver(reads int, d time.Duration) bool {
	return l.Reads > 0 && reads >= l.Reads || l.For > 0 && d >= l.For
}

// ReplicationLag makes reads by POST-as-GET, and of renewal information, see an
// older state of the CA, as at CAs that read from replicas of their database: a
// new order, authorization, challenge or certificate is not found at first (404,
// since it was created), and a resource that has changed is shown as it was read
// before (since a read could first have seen the change). All other requests
// reach the CA as ever.
func (s *Server) ReplicationLag(m Match, lag Lag) *Fault {
	r := replica{lag: lag, born: s.born, known: make(map[string]*copied)}
	return s.editAs("ReplicationLag", m, r.edit)
}

// replica is the state of a fault of ReplicationLag.
type replica struct {
	lag  Lag
	born func(url string) time.Time

	mu    sync.Mutex
	known map[string]*copied // by URL
}

// copied is what a replica knows of a resource.
type copied struct {
	body  []byte    // as last shown, or nil
	reads int       // that did not see the resource, or its change
	since time.Time // when the resource appeared, or changed; zero if it is up to date
}

// edit replaces the reply to a read by what the replica knows.
func (p *replica) edit(r *Reply) {
	born := p.born(r.URL)
	isRead := r.Request.Method != http.MethodPost || r.Payload != nil && len(r.Payload) == 0
	if !isRead || born.IsZero() || !r.succeeded() {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.known[r.URL]
	if c == nil {
		c = &copied{since: born}
		p.known[r.URL] = c
	}
	if c.body != nil && c.since.IsZero() && !bytes.Equal(c.body, r.Body) {
		c.since = time.Now()
	}
	switch {
	case c.since.IsZero() || p.lag.isOver(c.reads, time.Since(c.since)):
		*c = copied{body: bytes.Clone(r.Body)}
	case c.body != nil:
		c.reads++
		r.Body = bytes.Clone(c.body)
	default:
		c.reads++
		r.SetProblem(*notFound("there is nothing at %s yet", r.URL))
		for _, name := range []string{"Location", "Retry-After"} {
			r.Header.Del(name)
		}
	}
}

// born returns when the resource with a URL was created, by the machine's clock.
// It is zero if that is not known.
func (s *Server) born(url string) time.Time {
	path := s.path(url)
	e, id := parsePath(path)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch e {
	case Order:
		if o := numbered(s.state.orders, id); o != nil {
			return o.born
		}
	case Authorization:
		if a := numbered(s.state.authorizations, id); a != nil {
			return a.born
		}
	case Challenge:
		if c := numbered(s.state.challenges, id); c != nil {
			return c.authorization.born
		}
	case Certificate:
		if c := numbered(s.state.certificates, id); c != nil {
			return c.born
		}
	case RenewalInfo:
		if c, _ := s.certificateWith(strings.TrimPrefix(path, pathRenewalInfo)); c != nil {
			return c.born
		}
	}
	return time.Time{}
}
