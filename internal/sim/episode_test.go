package sim

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// episode is a new host with visitors, and what goes wrong while it gets its
// first certificate.
type episode struct {
	number int
	place  place
	fault  *exchangeFault // of one exchange, or nil

	outage     time.Duration // how long place, or everything, is out of order; or 0
	everything bool
	variant    int           // in which way
	retryAfter time.Duration // what the CA asks for meanwhile, or 0

	kill  int           // the step at which the process is killed, or -1
	chain int           // index into oddChains, or -1
	odd   int           // index into oddities, or -1
	fails bool          // the outage is only that validations of the host fail
	block bool          // the outage is only that the account is blocked
	sleep time.Duration // how long the machine is suspended after the outage, or 0
	stops bool          // the process is stopped, and the machine is not suspended
}

// killSteps is more than the steps of an issuance (see process.arm).
const killSteps = 32

// drawEpisode makes up an episode. Its number alone decides on its kind, so
// that each kind comes often.
func drawEpisode(seed uint64, number int) *episode {
	rng := rand.New(rand.NewPCG(seed, uint64(number)))
	e := &episode{number: number, place: places[rng.IntN(len(places))], variant: rng.IntN(1 << 16), kill: -1, chain: -1, odd: -1}
	switch number % 9 {
	case 0, 1, 2:
		e.drawFault(rng)
	case 3:
		e.kill = rng.IntN(killSteps)
	case 4:
		e.drawFault(rng)
		e.kill = rng.IntN(killSteps)
	case 5:
		e.drawOutage(rng, 5*time.Second, 40*time.Minute)
	case 6:
		e.drawOutage(rng, 5*time.Second, 2*time.Minute)
	case 7:
		switch rng.IntN(2) {
		case 0:
			e.chain = rng.IntN(len(oddChains))
		default:
			e.sleep, e.stops = logUniform(rng, 2*time.Hour, 3*day), rng.IntN(2) == 0 // longer than a backoff
			e.drawOutage(rng, time.Second, 40*time.Minute)
			e.fails = rng.IntN(2) == 0
		}
	case 8:
		if e.odd = rng.IntN(len(oddities) + 2); e.odd >= len(oddities) {
			e.drawOutage(rng, 5*time.Second, 10*time.Minute)
			e.odd, e.block, e.retryAfter = -1, true, 0
		}
	}
	return e
}

func (e *episode) drawFault(rng *rand.Rand) {
	for e.fault == nil || e.fault.not != nil && e.fault.not(e.place) {
		e.fault = &exchangeFaults[rng.IntN(len(exchangeFaults))]
	}
}

func (e *episode) drawOutage(rng *rand.Rand, least, most time.Duration) {
	e.outage, e.everything = logUniform(rng, least, most), rng.IntN(3) == 0
	if !e.everything && e.sleep == 0 && rng.IntN(4) == 0 {
		e.retryAfter = []time.Duration{time.Second, 7 * time.Second, 30 * time.Second, 2 * time.Minute}[rng.IntN(4)]
	}
}

// logUniform returns a random duration whose logarithm is uniform.
func logUniform(rng *rand.Rand, least, most time.Duration) time.Duration {
	return time.Duration(float64(least) * math.Pow(float64(most)/float64(least), rng.Float64()))
}

// String describes the episode.
func (e *episode) String() string {
	var parts []string
	where := fmt.Sprintf("%s (after %d)", e.place.endpoint, e.place.after)
	if e.fault != nil {
		parts = append(parts, e.fault.name+" at "+where)
	}
	if e.outage > 0 {
		switch {
		case e.fails:
			where = "validation"
		case e.block:
			where = "the account"
		case e.everything:
			where = "everything"
		}
		how := fmt.Sprintf("variant %d", e.variant%outageVariants)
		if e.retryAfter > 0 {
			how = fmt.Sprintf("%d with Retry-After %v", e.refusal(), e.retryAfter)
		}
		parts = append(parts, fmt.Sprintf("outage of %s for %v, %s", where, e.outage, how))
	}
	if e.kill >= 0 {
		parts = append(parts, fmt.Sprintf("killed at step %d", e.kill))
	}
	if e.chain >= 0 {
		parts = append(parts, fmt.Sprintf("odd chain %d", e.chain))
	}
	if e.odd >= 0 {
		parts = append(parts, oddities[e.odd].name)
	}
	if e.sleep > 0 {
		parts = append(parts, fmt.Sprintf("asleep for %v, process only: %v", e.sleep, e.stops))
	}
	return fmt.Sprintf("episode %d: %s", e.number, strings.Join(parts, ", "))
}

// begin has things go wrong for h.
func (e *episode) begin(w *world, h *host) (undo []func()) {
	m := e.place.match(1)
	if !e.place.isUnsigned() && e.place.endpoint != acmetest.NewAccount {
		m.Host = h.name
	}
	if e.fault != nil {
		undo = append(undo, e.fault.begin(w.ca, e.place, m))
	}
	if e.odd >= 0 {
		undo = append(undo, oddities[e.odd].begin(w.ca, h.name)...)
	}
	if e.fails {
		undo = append(undo, failValidations(w.ca, h.name, e.variant))
	} else if e.block {
		undo = append(undo, blockAccounts(w.ca, e.variant))
	} else if e.outage > 0 {
		m.Count = 0
		if e.everything {
			m = acmetest.Match{}
		}
		undo = append(undo, e.breakCA(w, m))
	}
	if e.chain >= 0 {
		undo = append(undo, w.ca.EditChain(h.name, oddChains[e.chain]).Lift)
	}
	if e.kill >= 0 {
		w.p.arm(e.kill)
	}
	return undo
}

const outageVariants = 5

// gone is the variant in which the CA does not know what it has made, which can
// happen to orders and certificates.
const gone = outageVariants - 1

// forgets reports whether the outage is such a one.
func (e *episode) forgets() bool {
	return e.outage > 0 && !e.everything && e.retryAfter == 0 && e.variant%outageVariants == gone &&
		(e.place.endpoint == acmetest.Order || e.place.endpoint == acmetest.Certificate)
}

// refusal returns the status of replies with Retry-After.
func (e *episode) refusal() int {
	return []int{http.StatusServiceUnavailable, http.StatusTooManyRequests}[e.variant%2]
}

// isLimited reports whether the outage is a rate limit.
func (e *episode) isLimited() bool {
	return e.retryAfter > 0 && e.refusal() == http.StatusTooManyRequests
}

// breakCA begins an outage.
func (e *episode) breakCA(w *world, m acmetest.Match) (undo func()) {
	if e.retryAfter > 0 {
		return w.ca.Status(m, e.refusal(), http.Header{"Retry-After": {strconv.Itoa(int(e.retryAfter.Seconds()))}}, acmetest.Problem{Detail: "busy"}).Lift
	}
	if e.forgets() {
		return w.ca.Status(m, http.StatusNotFound, nil, acmetest.Problem{Type: "malformed", Detail: "no such resource"}).Lift
	}
	switch e.variant % outageVariants {
	case 0, gone:
		return w.ca.Drop(m).Lift
	case 1:
		return w.ca.Status(m, http.StatusInternalServerError, nil, acmetest.Problem{Detail: "outage"}).Lift
	case 2:
		return w.ca.Stall(m).Lift
	default:
		return w.ca.GatewayPage(m, http.StatusBadGateway).Lift
	}
}

// blocked is longer than an account that works again is noticed.
const blocked = 20 * time.Minute

// hostBackoff is longer than the backoff of a host that has failed some times.
const hostBackoff = 70 * time.Minute

// limit returns how long the host may be refused after what happened is over.
func (e *episode) limit() time.Duration {
	const one, soon, later, last = 15 * time.Second, 15 * time.Second, 75 * time.Second, 7 * time.Minute
	var limit time.Duration
	switch {
	case e.sleep > 0:
		limit = last
	case e.forgets(), e.isLimited() && !e.place.isUnsigned():
		limit = hostBackoff // it may be this host's matter alone
	case e.isLimited():
		limit = later
	case e.block:
		limit = blocked
	case e.odd >= 0:
		limit = one + oddities[e.odd].costs
	case e.outage == 0:
		limit = one
	case e.outage < 2*time.Minute && (e.everything || e.place.isUnsigned()):
		limit = soon
	case e.outage < 15*time.Minute:
		limit = later
	default:
		limit = last
	}
	if e.fault != nil && e.fault.silent {
		limit = e.place.timeout + 5*time.Second
	}
	if e.kill >= 0 {
		limit += one // to begin again
	}
	return limit + e.retryAfter
}
