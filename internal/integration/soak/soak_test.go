package soak

import (
	"context"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
)

const (
	maxIssuing     = 64 // the default of the Manager's
	temporaryFiles = "temporary files"

	floodFor  = 10 * time.Second // of one kind, in a long run
	lookEvery = 2 * time.Second  // at the servers' vitals
	strangers = 8                // for each server
	patrons   = 4                // visitors for each server

	// controlTimeout is long: the machine may be busy.
	controlTimeout = time.Minute

	// strangerEvery is the pause between two connections of a stranger.
	strangerEvery = 20 * time.Millisecond
)

// soak is a run: a CA, a server that stays and one that is killed.
type soak struct {
	ca       *rudeCA
	services []*service // the last one is killed
	visitors []*visitors
	began    time.Time
	killed   int

	mu    sync.Mutex
	flood flood // what strangers do now
}

// Servers that are flooded, whose CA misbehaves, and of which one is killed all
// the time, serve no wrong certificate, lose no event, and need no more of
// anything after a long time than after a short one.
func TestSoak(t *testing.T) {
	s := newSoak(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var busy sync.WaitGroup
	faulty, stopFaults := context.WithCancel(ctx)
	defer stopFaults()
	busy.Go(func() { s.ca.misbehave(faulty) })
	for i, svc := range s.services {
		if err := svc.start(); err != nil {
			t.Fatal(err)
		}
		for range patrons {
			busy.Go(func() { s.visitors[i].run(ctx) })
		}
		for range strangers {
			busy.Go(func() { s.strangers(ctx, svc.config) })
		}
	}
	s.run(t)
	s.calmDown(t, stopFaults)
	cancel()
	busy.Wait()
	for _, svc := range s.services {
		svc.end(t)
	}
	s.ca.forget()
	s.report(t)
	s.check(t)
}

func newSoak(t *testing.T) *soak {
	t.Helper()
	s := &soak{ca: newRudeCA(), began: time.Now(), flood: floods[0]}
	t.Cleanup(s.ca.Close)
	hosts := *soakHosts
	if *soakFor < time.Minute {
		hosts = min(hosts, 20)
	}
	for _, name := range []string{"stays", "killed"} {
		ports := freePorts(t, 3)
		c := serverConfig{
			Name:    name,
			TLS:     ports[0],
			HTTP:    ports[1],
			Control: ports[2],
			Cache:   t.TempDir(),
			CA:      s.ca.URL,
			CACert:  s.ca.Certificate().Raw,
		}
		for i := range hosts / 2 {
			c.Hosts = append(c.Hosts, host(name, i))
		}
		s.ca.names = append(s.ca.names, c.Hosts...)
		s.ca.Resolve("*."+name+".test", acmetest.Target{TLSAddr: c.TLS, HTTPAddr: c.HTTP})
		s.services = append(s.services, &service{config: c, client: &http.Client{Timeout: controlTimeout}, phase: quiet})
		s.visitors = append(s.visitors, &visitors{config: c, roots: s.ca.Roots()})
	}
	t.Cleanup(func() { // for a test that failed early
		for _, svc := range s.services {
			if svc.process != nil {
				svc.process.cmd.Process.Kill()
				<-svc.process.exited
			}
		}
	})
	return s
}

// freePorts returns n addresses on loopback without listeners.
func freePorts(t *testing.T, n int) (addresses []string) {
	t.Helper()
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		addresses = append(addresses, l.Addr().String())
	}
	return addresses
}

// run lets time pass: it changes what strangers do, kills, and looks.
func (s *soak) run(t *testing.T) {
	t.Helper()
	period, kills := min(floodFor, *soakFor/time.Duration(len(floods)+1)), min(*killEvery, *soakFor/2)
	end := time.After(*soakFor)
	look := time.NewTicker(min(lookEvery, period))
	defer look.Stop()
	next := time.NewTicker(period)
	defer next.Stop()
	kill := time.NewTicker(kills)
	defer kill.Stop()
	for n := 0; ; {
		select {
		case <-end:
			return
		case <-look.C:
			s.look(t)
		case <-next.C:
			n++
			s.setFlood(floods[n%len(floods)])
		case <-kill.C:
			s.look(t)
			s.killed++
			victim := s.services[len(s.services)-1]
			victim.kill(t)
			if err := victim.start(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// calmDown waits, without faults and strangers, until every host is served.
func (s *soak) calmDown(t *testing.T, stopFaults func()) {
	t.Helper()
	stopFaults()
	s.setFlood(floods[0])
	look := time.NewTicker(time.Second)
	defer look.Stop()
	end := time.After(max(*soakFor/2, 3*time.Minute))
	for {
		s.look(t)
		cold := 0
		for _, svc := range s.services {
			m := svc.last().Metrics
			cold += len(svc.config.Hosts) - m.Hosts[certmgr.StateValid]
		}
		if cold == 0 {
			return
		}
		select {
		case <-look.C:
		case <-end:
			t.Errorf("%d hosts have no certificate although the CA has no fault any more", cold)
			return
		}
	}
}

func (s *soak) look(t *testing.T) {
	t.Helper()
	for _, svc := range s.services {
		if err := svc.look(s.began); err != nil {
			t.Errorf("%s does not tell how it is: %v", svc.config.Name, err)
		}
	}
}

func (s *soak) setFlood(f flood) {
	s.mu.Lock()
	s.flood = f
	s.mu.Unlock()
	for _, svc := range s.services {
		svc.setPhase(f.name) // what happens in the moment between counts for either
	}
}

// strangers is one of them.
func (s *soak) strangers(ctx context.Context, c serverConfig) {
	for ctx.Err() == nil {
		s.mu.Lock()
		act := s.flood.act
		s.mu.Unlock()
		act(ctx, c)
		sleep(ctx, strangerEvery)
	}
}

// check checks what must hold after a run of any length.
func (s *soak) check(t *testing.T) {
	t.Helper()
	for i, svc := range s.services {
		v, name := s.visitors[i], svc.config.Name
		if len(v.wrong) > 0 || v.served == 0 {
			t.Errorf("%s: %d good certificates, wrong ones: %q", name, v.served, v.wrong)
		}
		if n := svc.sum(func(v vitals) uint64 { return v.Metrics.EventsDropped }); n > 0 {
			t.Errorf("%s: %d events dropped", name, n)
		}
		checkGrowth(t, svc)
		for kind, n := range leftovers(t, svc.config.Cache) {
			most := maxIssuing // renewals that the end of the server interrupted
			if kind == temporaryFiles {
				most = s.killed * maxIssuing // writes at the moment of a kill
			}
			if n > most {
				t.Errorf("%s: %d %s are left in the Cache, want %d at most", name, n, kind, most)
			}
		}
	}
	if n := len(s.ca.Accounts()); n != len(s.services) {
		t.Errorf("%d accounts, want %d", n, len(s.services))
	}
}

// checkGrowth compares the beginning of a run with its end: of the generations
// that got as old as the first one.
func checkGrowth(t *testing.T, svc *service) {
	t.Helper()
	early, late := svc.comparable()
	if early == nil {
		return // too short a run
	}
	for _, c := range []struct {
		what        string
		early, late float64
		slack       float64
	}{
		{"goroutines", float64(early.Goroutines), float64(late.Goroutines), 300},
		{"descriptors", float64(early.Descriptors), float64(late.Descriptors), 300},
		{"bytes in use", float64(early.Heap), float64(late.Heap), 32 << 20},
	} {
		if c.late > 1.5*c.early+c.slack {
			t.Errorf("%s: %.0f %s after %v, and %.0f after %v", svc.config.Name, c.early, c.what, early.at, c.late, late.at)
		}
	}
}

// leftovers counts what only an issuance needs, in the directory of a Cache.
func leftovers(t *testing.T, dir string) map[string]int {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	left := make(map[string]int)
	for _, e := range entries {
		for part, kind := range map[string]string{"+order": "orders", "+token": "answers", "+http-01": "answers", ".put-": temporaryFiles} {
			if strings.Contains(e.Name(), part) {
				left[kind]++
			}
		}
	}
	return left
}
