package certmgr

import (
	"fmt"
	"time"
)

// tooManyAttempts is why an attempt does not begin: those before it have no known
// outcome.
type tooManyAttempts struct {
	next time.Time // when one may begin
	tell bool      // there was no event about it yet
}

func (e *tooManyAttempts) Error() string {
	return fmt.Sprintf("%d attempts within an hour, none concluded: during each of them the process ended, the host left the list, "+
		"or was not allowed any more", maxAttempts)
}

// countedAttempt is an issuance as an attempt that counts.
type countedAttempt struct {
	at       time.Time       // when it began, by the wall clock; zero if it does not count
	recorded <-chan struct{} // closed when the Cache has it, or nil
}

// wait waits until the Cache has the attempt: what follows must not be overtaken.
func (c countedAttempt) wait() {
	if c.recorded != nil {
		<-c.recorded
	}
}

// countAttempt counts an attempt that is about to begin, or returns a
// *tooManyAttempts. An attempt that only has to fetch a certificate places no
// order, and is let through: nothing else may be ordered meanwhile.
func (h *health) countAttempt(i *issuance, isFinalized func() bool) error {
	now := h.now()
	next, tell := h.failures.attempts.begin(i.req.sub.id(), now)
	switch {
	case next.IsZero():
		i.counted.at = now
		return nil
	case isFinalized():
		return nil
	}
	return &tooManyAttempts{next, tell}
}

// uncountAttempt takes back countAttempt, for an attempt that does not begin.
func (h *health) uncountAttempt(i *issuance) {
	if !i.counted.at.IsZero() {
		h.failures.attempts.undo(i.req.sub.id(), i.counted.at)
		i.counted.at = time.Time{}
	}
}
