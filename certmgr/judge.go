package certmgr

import (
	"context"
	"time"
)

// judge applies the outcome of an attempt to the CA's state. It returns what the
// attempt says about the CA, whether its failure is the CA's as a whole, and whether
// the CA works again. spare says that nobody may need the certificate for weeks.
func (h *health) judge(ctx context.Context, i *issuance, out outcome, spare bool) (what trouble, whole, back bool) {
	cause := out.cause()
	what = troubleOf(i.trace, out.stage, i.host(), cause)
	what, cause = h.confirm(ctx, what, cause)
	switch {
	case h.tasks.IsClosed() || takenOffBy(ctx) != nil:
		what = troubleNone // it was interrupted
	case postponed(out.err) != nil:
		what = troubleNone // it was not asked
	case (what == troubleOwn || what == troubleCA) && !isAskedToWait(cause) && spare:
		what = troubleNone // nor the CA
	}
	whole, back = h.breaker.done(evidence{
		host:  i.host(),
		one:   i.one,
		what:  what,
		cause: cause,
		took:  time.Since(i.began),
	})
	h.breakerStore.save()
	if back {
		h.failures.release(h.now())
	}
	return what, whole, back
}
