package certmgr_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/cache"
)

var killCount = flag.Int("certmgr.kills", 150, "how many processes are killed during an issuance; CI kills 1,000")

// mortal is a process: its connections to the Cache and to the CA. It is killed at
// one of its steps, each of which is a call of the Cache or a request. What comes
// afterwards has no effect, and no reply arrives.
type mortal struct {
	kill
	dead chan struct{}

	mu    sync.Mutex
	steps []string // so far
}

// kill says when a process is killed.
type kill struct {
	at    int  // the step, from 1; 0 means never
	after bool // the step itself takes place
}

var errKilled = errors.New("the process was killed")

// step runs f unless the process is dead or dies before it.
func (p *mortal) step(name string, f func() error) error {
	p.mu.Lock()
	select {
	case <-p.dead:
		p.mu.Unlock()
		return errKilled
	default:
	}
	p.steps = append(p.steps, name)
	now := len(p.steps) == p.at
	if now && !p.after {
		close(p.dead)
		p.mu.Unlock()
		return errKilled
	}
	p.mu.Unlock()
	err := f()
	if now {
		close(p.dead)
	}
	select {
	case <-p.dead:
		return errKilled
	default:
		return err
	}
}

// RoundTrip implements http.RoundTripper over that of another client.
func (p *mortal) transport(base http.RoundTripper) http.RoundTripper {
	return roundTripper(func(req *http.Request) (res *http.Response, err error) {
		err = p.step("CA "+req.URL.Path, func() (err error) {
			if res, err = base.RoundTrip(req); err == nil {
				body, readErr := io.ReadAll(res.Body)
				res.Body.Close()
				res.Body, err = io.NopCloser(strings.NewReader(string(body))), readErr
			}
			return err
		})
		if err != nil {
			return nil, err
		}
		return res, nil
	})
}

// mortalCache is the process's access to a Cache.
type mortalCache struct {
	certmgr.Cache
	*mortal
}

func (c mortalCache) Get(ctx context.Context, key string) (data []byte, err error) {
	err = c.step("get "+key, func() (err error) {
		data, err = c.Cache.Get(ctx, key)
		return err
	})
	return data, err
}

func (c mortalCache) Put(ctx context.Context, key string, data []byte) error {
	return c.step("put "+key, func() error { return c.Cache.Put(ctx, key, data) })
}

func (c mortalCache) Delete(ctx context.Context, key string) error {
	return c.step("delete "+key, func() error { return c.Cache.Delete(ctx, key) })
}

// killSite is where processes are killed: one CA and one Cache for all of them.
type killSite struct {
	t     *testing.T
	ca    *acmetest.Server
	cache *cache.Memory
	keys  *hsm // or nil
}

// process starts a process for host.
func (s *killSite) process(p *mortal, host string) *certmgr.Manager {
	m := &certmgr.Manager{
		Prompt: certmgr.AcceptTOS,
		Cache:  mortalCache{s.cache, p},
		Hosts:  certmgr.MustAllowlist(host),
		Client: &acme.Client{
			DirectoryURL: s.ca.URL,
			HTTPClient:   &http.Client{Transport: p.transport(s.ca.Client().Transport)},
		},
		Audit: new(recorder).hook,
	}
	if s.keys != nil {
		m.KeySource = s.keys.source
	}
	s.ca.Resolve(host, acmetest.Target{TLSConfig: m.TLSConfig()})
	return m
}

// live starts processes for host one after the other, each of which is killed
// at one of its steps, and then one that is not. It returns the names of the
// last one's steps.
func (s *killSite) live(host string, kills []kill) []string {
	s.t.Helper()
	for i := range append(kills, kill{}) {
		p := &mortal{dead: make(chan struct{})}
		if i < len(kills) {
			p.kill = kills[i]
		}
		m := s.process(p, host)
		done := make(chan struct{})
		go func() {
			defer close(done)
			for begin := time.Now(); time.Since(begin) < 3*time.Hour; time.Sleep(time.Second) {
				if cert, err := m.GetCertificate(hello(host)); err == nil {
					if i == len(kills) {
						s.check(host, cert.Leaf.Raw, len(kills))
					}
					time.Sleep(time.Second) // for the deletion of what is no longer needed
					return
				}
				select {
				case <-p.dead:
					return
				default:
				}
			}
			s.t.Errorf("%s has no certificate", host)
		}()
		select {
		case <-done:
		case <-p.dead:
		}
		m.Close() // what it would still do has no effect
		<-done
		if i == len(kills) {
			return p.steps
		}
		time.Sleep(rand.N(time.Minute))
	}
	return nil
}

// check checks the orders of a host that is served with a certificate, after some
// processes were killed.
func (s *killSite) check(host string, leaf []byte, kills int) {
	s.t.Helper()
	finalized, open := 0, 0
	for _, o := range s.ca.Orders() {
		switch {
		case !slices.Contains(o.Hosts, host):
		case o.Status == acme.StatusValid || o.Status == acme.StatusProcessing:
			finalized++
		default:
			open++
		}
	}
	issued := s.ca.IssuedFor(host)
	if finalized != 1 || open > kills || len(issued) != 1 || !slices.Equal(issued[0].Raw, leaf) {
		s.t.Errorf("%s: %d finalized orders, %d others, %d certificates", host, finalized, open, len(issued))
	}
}

// atKillSite runs f in a bubble with a CA whose account the Cache has.
func atKillSite(t *testing.T, f func(t *testing.T, s *killSite)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &killSite{t: t, ca: acmetest.NewUnstartedServer(), cache: new(cache.Memory)}
		s.ca.Processing = 3 * time.Second
		s.ca.ValidateInReply = acmetest.Never // so that authorizations are polled
		s.ca.StartMemory()
		defer s.ca.Close()
		s.live("first.example.com", nil)
		f(t, s)
	})
}

// Wherever a process is killed, the next one goes on with its order: at most one
// order of a host is finalized, and at most one more is left unfinished.
func TestIssuanceSurvivesAKillAtEachStep(t *testing.T) {
	t.Parallel()
	atKillSite(t, func(t *testing.T, s *killSite) {
		steps := len(s.live("whole.example.com", nil))
		for at := range steps {
			for _, after := range []bool{false, true} {
				s.live(fmt.Sprintf("at%d-%v.example.com", at+1, after), []kill{{at: at + 1, after: after}})
			}
		}
	})
}

// The same with keys of a hardware module, of which the Cache has the public key
// alone.
func TestIssuanceWithAKeyOfAModuleSurvivesAKillAtEachStep(t *testing.T) {
	t.Parallel()
	atKillSite(t, func(t *testing.T, s *killSite) {
		s.keys = new(hsm)
		steps := len(s.live("whole.example.com", nil))
		for at := range steps {
			s.live(fmt.Sprintf("at%d.example.com", at+1), []kill{{at: at + 1, after: true}})
		}
	})
}

// The same at random, for up to three processes of a host that are killed one after
// the other.
func TestIssuanceSurvivesManyKills(t *testing.T) {
	t.Parallel()
	for n := 0; n < *killCount; {
		atKillSite(t, func(t *testing.T, s *killSite) {
			for range 50 {
				kills := make([]kill, 1+rand.N(3))
				for i := range kills {
					kills[i] = kill{at: 1 + rand.N(36), after: rand.N(2) == 0}
				}
				n += len(kills)
				s.live(fmt.Sprintf("host%d.example.com", n), kills)
			}
		})
	}
}
