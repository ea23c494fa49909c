package certmgr

import (
	"time"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/text"
)

const (
	// maxSkew is how far the local clock may differ from the CA's. Public CAs
	// backdate certificates by an hour; clients and servers of other protocols
	// tolerate less.
	maxSkew = 5 * time.Minute

	// maxSkewAge is how long a response of the CA says something about the
	// clocks: the local one may have been set since.
	maxSkewAge = time.Hour
)

func isOff(skew time.Duration) bool { return skew.Abs() > maxSkew }

// skew returns how far the CA's clock is ahead of the local one, by the Date of
// its last response. ok is false if there is no recent one.
func (o *orders) skew() (ahead time.Duration, ok bool) {
	ahead, at, ok := o.ca.Skew()
	if age := o.now().Sub(at); !ok || age < 0 || age > maxSkewAge {
		return 0, false
	}
	return ahead, true
}

// watchClock reports that the local clock is off, once until it is right again.
func (o *orders) watchClock() {
	skew, ok := o.skew()
	if !ok || o.clockOff.Swap(isOff(skew)) || !isOff(skew) {
		return
	}
	o.audit.Emit(audit.Event{Kind: audit.ClockOff, CA: o.dir, Err: &refusal{kind: ErrClock, text: text.Skew(skew) + "; set it"}})
}
