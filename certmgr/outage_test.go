package certmgr_test

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
)

// outageKind is a way for an endpoint to be out of service.
type outageKind struct {
	name  string
	begin func(ca *acmetest.Server, m acmetest.Match) *acmetest.Fault
}

func outageKinds() []outageKind {
	status := func(code int) func(*acmetest.Server, acmetest.Match) *acmetest.Fault {
		return func(ca *acmetest.Server, m acmetest.Match) *acmetest.Fault {
			return ca.Status(m, code, nil, acmetest.Problem{})
		}
	}
	return []outageKind{
		{"500", status(500)},
		{"503", status(503)},
		{"dropped", (*acmetest.Server).Drop},
		{"silence", (*acmetest.Server).Stall},
	}
}

// outageEndpoints are all that a first issuance uses. The last one is the whole
// network.
func outageEndpoints() []acmetest.Endpoint {
	return []acmetest.Endpoint{
		acmetest.Directory,
		acmetest.NewNonce,
		acmetest.NewAccount,
		acmetest.NewOrder,
		acmetest.Authorization,
		acmetest.Challenge,
		acmetest.Order,
		acmetest.Finalize,
		acmetest.Certificate,
		acmetest.Any,
	}
}

// promised returns how soon after an outage a host with visitors has its
// certificate.
func promised(e acmetest.Endpoint, lasts time.Duration) time.Duration {
	switch {
	case lasts < 2*time.Minute && (e == acmetest.Directory || e == acmetest.NewNonce || e == acmetest.Any):
		return 15 * time.Second
	case lasts < 15*time.Minute:
		return 75 * time.Second
	}
	return 7 * time.Minute
}

// A host that visitors ask for has its certificate soon after the end of an
// outage, whatever was out of service, and the CA is asked no more often than
// that takes.
func TestOutageEndsSoonForVisitors(t *testing.T) {
	t.Parallel()
	lengths := []time.Duration{90 * time.Second, 10 * time.Minute, time.Hour}
	for i, e := range outageEndpoints() {
		name := string(e)
		if e == acmetest.Any {
			name = "network"
		}
		for j, lasts := range lengths {
			for k, kind := range outageKinds() {
				for _, hosts := range []int{1, 20} {
					if hosts > 1 && (i+j+k)%4 != 0 || !runsRow(i+j+k+hosts, 3) {
						continue // they take long
					}
					t.Run(fmt.Sprintf("%s/%s for %v/%d hosts", name, kind.name, lasts, hosts), func(t *testing.T) {
						inBubble(t, func(t *testing.T, w *world) { endsSoon(t, w, e, kind, lasts, hosts) })
					})
				}
			}
		}
	}
}

// What a host failed with and what the probe found stand in one line, in errors and
// in events.
func TestOutageIsToldInOneLine(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.mustGet("b.example.com")
		w.ca.Status(acmetest.Match{Endpoint: acmetest.NewOrder}, 500, nil, acmetest.Problem{})
		w.ca.Status(acmetest.Match{Endpoint: acmetest.NewNonce}, 503, nil, acmetest.Problem{})
		w.get("a.example.com")
		down := w.events.of(audit.CAUnavailable)
		if len(down) != 1 {
			t.Fatalf("%d events, want that the probe failed, too", len(down))
		}
		if s := down[0].Err.Error(); strings.Contains(s, "\n") || !strings.Contains(s, "500") || !strings.Contains(s, "503") {
			t.Errorf("the error is %q, want both failures in one line", s)
		}
	})
}

// Hosts that nobody visits have theirs soon, too, even if there are more than are
// remembered as waiting.
func TestOutageEndsSoonForStart(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		const lasts, hosts = 10 * time.Minute, 150
		w.m.StartPace = -1
		var names []string
		for i := range hosts {
			names = append(names, fmt.Sprintf("www.example%d.com", i))
		}
		w.m.Hosts.Replace(names...)
		fault := w.ca.Drop(acmetest.Match{Endpoint: acmetest.Directory})
		if err := w.m.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(lasts)
		fault.Lift()
		time.Sleep(promised(acmetest.Directory, lasts))
		if n := w.ca.Count(acmetest.Certificate); n != hosts {
			t.Errorf("%d of %d hosts have a certificate", n, hosts)
		}
	})
}

func endsSoon(t *testing.T, w *world, e acmetest.Endpoint, kind outageKind, lasts time.Duration, n int) {
	t.Helper()
	w.m.HandshakeWait = -1
	missing := make(map[string]bool)
	for i := range n {
		missing[fmt.Sprintf("www.example%d.com", i)] = true
	}
	w.m.Hosts.Replace(slices.Collect(maps.Keys(missing))...)
	visit := func() (err error) {
		for host := range missing {
			if _, refused := w.get(host); refused != nil {
				err = refused
				continue
			}
			delete(missing, host)
		}
		return err
	}
	fault := kind.begin(w.ca, acmetest.Match{Endpoint: e})
	for begin := time.Now(); time.Since(begin) < lasts; time.Sleep(time.Second) {
		if visit() == nil {
			t.Fatal("the fault did not act")
		}
	}
	// Each host fails once before the breaker opens. An attempt has 20 requests
	// at most, since those that fail are repeated.
	attempts, probes := mostInOutage(lasts)
	if got, most := w.ca.Count(acmetest.Any), 20*(n+attempts)+probes; got > most {
		t.Errorf("the CA got %d requests meanwhile, want %d at most", got, most)
	}
	if got, most := len(w.ca.Orders()), n+attempts; got > most {
		t.Errorf("the CA got %d orders meanwhile, want %d at most", got, most)
	}
	fault.Lift()
	back := time.Now()
	err := visit()
	for ; err != nil && time.Since(back) < 10*time.Minute; err = visit() {
		time.Sleep(time.Second)
	}
	if took, limit := time.Since(back), promised(e, lasts); took > limit {
		t.Errorf("%v after the end of the outage, want %v at most: %v", took, limit, err)
	}
}

// mostInOutage returns how many attempts and probes there may be, with jitter.
func mostInOutage(lasts time.Duration) (attempts, probes int) {
	spent := func(from, to, every time.Duration, percent int) int {
		d := min(lasts, to) - from
		return max(0, int(d/(every*time.Duration(100-percent)/100))+1)
	}
	attempts = 4 + spent(58*time.Second, 15*time.Minute, time.Minute, 10) + spent(15*time.Minute, lasts, 5*time.Minute, 10)
	probes = 1 + spent(0, 2*time.Minute, 5*time.Second, 30) + spent(2*time.Minute, 15*time.Minute, 30*time.Second, 30) +
		spent(15*time.Minute, lasts, 5*time.Minute, 30)
	return attempts, probes
}

// A refusal of the account is no outage: it is not tried every few seconds.
func TestRefusedAccountIsTriedRarely(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.HandshakeWait = -1
		w.ca.Status(acmetest.Match{Endpoint: acmetest.NewAccount}, 403, nil, acmetest.Problem{Type: "unauthorized", Detail: "no"})
		w.visitFor(time.Hour, "a.example.com")
		if n := len(w.events.of(audit.IssuanceStarted)); n < 5 || n > 8 {
			t.Errorf("%d tries to register in an hour", n)
		}
	})
}

// A process that is started again goes on where the outage was.
func TestRestartInAnOutageProbesFirst(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.HandshakeWait = -1
		w.ca.Drop(acmetest.Match{})
		w.visitFor(20*time.Minute, "a.example.com")
		n := w.ca.Count(acmetest.Any)
		for range 30 {
			w.restart()
			w.m.HandshakeWait = -1
			w.visitFor(10*time.Second, "a.example.com")
		}
		if more := w.ca.Count(acmetest.Any) - n; more > 4 {
			t.Errorf("%d requests in 5 min of a crash loop", more)
		}
	})
}

// A CA that fails again while those who wait make their orders has them wait
// again. Nothing spins.
func TestCAThatIsBackForOneOrder(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.HandshakeWait, w.m.MaxIssuing = -1, 16
		if err := w.m.Obtain(t.Context(), "a.example.com"); err != nil {
			t.Fatal(err)
		}
		fault := w.ca.Drop(acmetest.Match{})
		hosts := make([]string, 40)
		for i := range hosts {
			hosts[i] = fmt.Sprintf("www.example%d.com", i)
		}
		w.m.Hosts.Add(hosts...)
		for _, host := range hosts {
			w.get(host)
			time.Sleep(100 * time.Millisecond)
		}
		fault.Lift()
		limit := w.ca.Status(acmetest.Match{Endpoint: acmetest.NewOrder, After: w.ca.Count(acmetest.NewOrder) + 1}, 429, http.Header{"Retry-After": {"30"}},
			acmetest.Problem{Type: "rateLimited", Detail: "too many new orders (300) from this account in the last 3h0m0s"})
		time.Sleep(20 * time.Second)
		if orders := w.ca.Count(acmetest.NewOrder); orders > 2+2*16 { // MaxIssuing, and some that had begun
			t.Errorf("%d orders at a CA that refuses them", orders)
		}
		if w.m.Snapshot().CAUnavailable.IsZero() {
			t.Error("the CA is in use")
		}
		limit.Lift()
		for time.Sleep(60 * time.Second); len(hosts) > 0; hosts = hosts[1:] {
			if certmgr.InMemory(w.m, hosts[0]) == 0 {
				t.Errorf("%s has no certificate", hosts[0])
			}
		}
	})
}

// While the CA is out of service, visitors still find the certificate that
// another machine has written meanwhile.
func TestCertificateThatTurnsUpDuringAnOutageIsFound(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.ca.Status(acmetest.Match{Endpoint: acmetest.Directory}, 503, nil, acmetest.Problem{Type: "serverInternal"})
		w.get("a.example.com")
		w.wantErr("a.example.com", certmgr.ErrCAUnavailable)
		now := time.Now()
		w.cache.Cache.Put(t.Context(), "a.example.com", testBundle(t, "a.example.com", now.Add(-day), now.Add(80*day)))
		time.Sleep(11 * time.Second)
		w.mustGet("a.example.com")
	})
}
