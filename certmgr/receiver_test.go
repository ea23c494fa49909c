package certmgr_test

import (
	"context"
	"crypto/tls"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr"
)

// receiver is a Manager.Issued that remembers, and does as it is told.
type receiver struct {
	on func(ctx context.Context, host string) error

	mu      sync.Mutex
	got     []string // serial numbers
	hosts   []string
	at      []time.Time
	running map[string]int
	most    int // calls at the same time
	twice   bool
}

func (r *receiver) issued(ctx context.Context, cert *tls.Certificate) error {
	host := cert.Leaf.DNSNames[0]
	r.mu.Lock()
	if r.running == nil {
		r.running = make(map[string]int)
	}
	r.running[host]++
	r.twice = r.twice || r.running[host] > 1
	r.most = max(r.most, len(r.running))
	r.got = append(r.got, serialOf(cert.Leaf))
	r.hosts, r.at = append(r.hosts, host), append(r.at, time.Now())
	on := r.on
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.running[host]--; r.running[host] == 0 {
			delete(r.running, host)
		}
	}()
	if on == nil {
		return nil
	}
	return on(ctx, host)
}

// do sets what calls do from now on.
func (r *receiver) do(on func(ctx context.Context, host string) error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.on = on
}

// take returns the serial numbers of the calls since the last take, and when
// they began.
func (r *receiver) take() (serials []string, at []time.Time) {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	serials, at = r.got, r.at
	r.got, r.at, r.hosts = nil, nil, nil
	return serials, at
}

// want checks that there was one call for each certificate, in this order.
func (r *receiver) want(t *testing.T, what string, certs ...*tls.Certificate) {
	t.Helper()
	var serials []string
	for _, c := range certs {
		serials = append(serials, serialOf(c.Leaf))
	}
	if got, _ := r.take(); !slices.Equal(got, serials) {
		t.Errorf("%s: Issued was called for %v, want %v", what, got, serials)
	}
}

// inIssuedBubble is inBubble with a receiver, which the Manager of the world
// has.
func inIssuedBubble(t *testing.T, f func(t *testing.T, w *world, r *receiver)) {
	t.Helper()
	inBubble(t, func(t *testing.T, w *world) {
		r := new(receiver)
		w.m.Issued = certmgr.RetryIssued(r.issued)
		f(t, w, r)
	})
}
