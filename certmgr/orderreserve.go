package certmgr

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"

	"github.com/nostall/nostall/internal/acmeclient"
	"github.com/nostall/nostall/internal/text"
)

// orderClaim is the part of an issuance in the order budget.
type orderClaim struct {
	share    share       // that its orders are from
	exempt   bool        // an order with replaces does not count
	reserved atomic.Bool // an order that is not placed yet
}

// shareOf returns the share of the budget that the orders of a request are from.
func (o *orders) shareOf(req issueRequest) share {
	switch {
	case req.override || o.memory.current(req.sub) != nil:
		return shareAll
	case req.grant.unlisted() || req.second:
		return shareStrangers
	case req.priority == background:
		return shareStart
	}
	return shareAll
}

// mayOrder returns an error if the budget has no order for a request now. A host
// that may have an order to resume passes: reserve looks.
func (o *orders) mayOrder(req issueRequest) error {
	share, unfinished := o.shareOf(req), o.unfinished
	if unfinished.has(req.sub) || share != shareStrangers && !unfinished.hadNone(req.sub, o.now()) {
		return nil
	}
	return o.budget.check(req.sub.host(), share)
}

// reserve takes an order of the budget for an attempt, before it begins. An
// attempt that has an order to resume, or replaces a certificate when the CA
// wants that, begins without one.
func (o *orders) reserve(ctx context.Context, i *issuance, last *failure) error {
	if o.budget.size == 0 {
		return nil
	}
	sub := i.req.sub
	c := &i.claim
	c.share, c.exempt = o.shareOf(i.req), i.req.suggested
	if c.exempt && o.replaces(sub, last) != "" {
		return nil
	}
	err := o.budget.take(ctx, i.host(), c.share)
	if err == nil {
		c.reserved.Store(true)
		return nil
	}
	if o.unfinished.find(ctx, sub) != nil {
		return nil
	}
	return err
}

// postponed returns the error of the budget if that alone ended an attempt, which
// had an order to resume and needed another one, or the error of a profile that
// the CA does not offer. Neither is the host's or the CA's. Otherwise it returns
// nil.
func postponed(err error) *caRefusal {
	none, ok := errors.AsType[*caRefusal](err)
	if ok && (none.kind == ErrBadSetting || len(text.Problems(err)) == 0) {
		return none
	}
	return nil
}

// mayAsk returns an error while the CA is known not to offer the profile for a
// request, unless an order can be resumed.
func (o *orders) mayAsk(req issueRequest) error {
	if o.unfinished.has(req.sub) {
		return nil
	}
	return o.profiles.check(req.sub)
}

// chooseProfile sets the profile for an attempt that is about to begin. If the CA
// does not offer it, only an attempt that has an order to resume may begin.
func (o *orders) chooseProfile(ctx context.Context, i *issuance) error {
	want, err := o.profiles.pass(ctx, i.req.sub, i.req.override)
	i.profile.name = want.name
	if !errors.Is(err, ErrBadSetting) {
		i.profile.failure = err
		return nil
	}
	if o.unfinished.find(ctx, i.req.sub) == nil {
		return err
	}
	return nil
}

// giveBack returns a reserved order that was not placed.
func (o *orders) giveBack(i *issuance) {
	if i.claim.reserved.CompareAndSwap(true, false) {
		o.budget.giveBack()
	}
}

// countOrder is order.Request's Order: it takes each order that is placed from
// the budget.
func (o *orders) countOrder(i *issuance) func(replaces bool) (func(bool, error), error) {
	return func(replaces bool) (done func(without bool, err error), err error) {
		free := replaces && i.claim.exempt
		if !free && !i.claim.reserved.CompareAndSwap(true, false) {
			if err := o.budget.takeAnyway(i.host(), i.claim.share); err != nil {
				return nil, err
			}
		}
		return func(without bool, err error) {
			if err == nil {
				o.profiles.accepted(i.req.sub)
			}
			problem, refused := acmeclient.Problem(err)
			refused = refused && problem.StatusCode < http.StatusInternalServerError
			switch {
			case o.budget.size == 0:
			case free && without && !refused:
				o.budget.spend()
			case !free && refused:
				o.budget.giveBack()
			}
		}, nil
	}
}
