package certmgr

import (
	"time"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/text"
)

const (
	// maxSkew is how far the local clock may be from the CA's. Certificates of
	// public CAs are valid from an hour before they are issued; clients and
	// servers of other protocols are less patient.
	maxSkew = 5 * time.Minute

	// maxSkewAge is how long an answer of the CA says something about the clocks:
	// the local one may have been set since.
	maxSkewAge = time.Hour
)

func isOff(skew time.Duration) bool { return skew.Abs() > maxSkew }

// skew returns how far the CA's clock is ahead of the local one by the Date of its
// last answer. ok is false if there is none, or none of late.
func (o *orders) skew() (ahead time.Duration, ok bool) {
	ahead, at, ok := o.ca.Skew()
	if age := o.now().Sub(at); !ok || age < 0 || age > maxSkewAge {
		return 0, false
	}
	return ahead, true
}

// watchClock tells when the local clock is found to be off, once until it is right
// again.
func (o *orders) watchClock() {
	skew, ok := o.skew()
	if !ok || o.clockOff.Swap(isOff(skew)) || !isOff(skew) {
		return
	}
	o.audit.Emit(audit.Event{Kind: audit.ClockOff, CA: o.dir, Err: &refusal{kind: ErrClock, text: text.Skew(skew) + "; set it"}})
}
