package order

import (
	"context"
	"fmt"
	"slices"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/acmeclient"
	"github.com/nostall/nostall/internal/challenge"
)

// trial is a challenge that is being tried for a name.
type trial struct {
	name   string
	url    string // of the authorization
	chal   *acme.Challenge
	answer *challenge.Answer
	done   bool // the CA has decided
}

// refutation is the CA's decision against a challenge.
type refutation struct {
	typ string
	err error
}

// accept has the CA validate a challenge.
func (c *conversation) accept(ctx context.Context, t *trial) error {
	accepted, err := c.client.Accept(ctx, t.chal)
	if err != nil {
		return endIfDenied(acmeclient.Cause(err))
	}
	t.done = accepted.Status == acme.StatusValid // and so is the authorization (RFC 8555, section 7.1.6)
	return nil
}

// await waits for the CA's decisions. That against one name does not end the wait
// for the others: the next order can do without it. If the CA leaves only some
// names undecided, the error is a *NamesError.
func (c *conversation) await(ctx context.Context, tried []*trial) (failed map[string]refutation, err error) {
	failed = make(map[string]refutation)
	open := slices.DeleteFunc(slices.Clone(tried), func(t *trial) bool { return t.done })
	if len(open) == 0 {
		return failed, nil
	}
	rule := pollRule{
		first:    pollFirst,
		maxFails: pollMaxFails,
		isFatal:  isDenied,
		stays:    true, // the response to the challenge must be there while the CA validates
	}
	_, err = poll(ctx, rule, func(ctx context.Context) (struct{}, bool, error) {
		for len(open) > 0 {
			i := slices.IndexFunc(open, func(t *trial) bool { return !t.done })
			if i < 0 {
				break
			}
			z, err := c.client.GetAuthorization(ctx, open[i].url)
			if err != nil {
				return struct{}{}, false, acmeclient.Cause(err)
			}
			open[i].done = true // in this round
			if z.Status == acme.StatusPending || z.Status == acme.StatusProcessing {
				continue
			}
			if z.Status != acme.StatusValid {
				failed[open[i].name] = c.refute(z, open[i])
			}
			open = slices.Delete(open, i, i+1)
		}
		for _, t := range open {
			t.done = false
		}
		return struct{}{}, len(open) == 0, nil
	})
	if err == nil {
		return failed, nil
	}
	if len(open) == 0 { // cannot be: poll fails while something is open
		return failed, err
	}
	t := open[0]
	err = c.about(t.name, fmt.Errorf("%s: %w (%s)", t.chal.Type, err, t.answer.Sighting()))
	if ctx.Err() != nil {
		undecided := make(map[string]error)
		for _, t := range open {
			undecided[t.name] = err
		}
		for name, no := range failed {
			undecided[name] = no.err
		}
		err = c.blame(undecided, err)
	}
	return nil, err
}

// refute reports a decision against a challenge.
func (c *conversation) refute(z *acme.Authorization, t *trial) refutation {
	c.res.Refuted = true
	err := authorizationFailed(z, t.chal)
	reason, _ := acmeclient.Problem(err)
	hint := t.answer.Hint(reason)
	c.res.NotOffered = c.res.NotOffered || challenge.IsNotOffered(t.chal.Type, reason)
	e := audit.Event{
		Kind:   audit.ChallengeFailed,
		Stage:  audit.StageChallenge,
		Reason: t.chal.Type + ": " + hint,
		Err:    err,
	}
	if len(c.req.Names) > 1 {
		e.Host = t.name
	}
	c.req.Event(e)
	return refutation{t.chal.Type, fmt.Errorf("%s: %w (%s)", t.chal.Type, err, hint)}
}
