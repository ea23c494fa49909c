package order

import (
	"crypto"
	"errors"
	"fmt"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/internal/acmeclient"
	"github.com/nostall/nostall/internal/pace"
)

// Unfinished is an order whose certificate has not arrived. The next
// conversation resumes it, until the certificate is there or the CA calls the
// order invalid. A new order each time would mean a new certificate each time,
// and Let's Encrypt allows only 5 for the same names in 7 days. Times are by the
// wall clock.
type Unfinished struct {
	URL       string
	Account   acme.KeyID // no other account can resume it
	Directory string     // URL of the CA's directory
	Names     string     // of the request that placed it, separated by spaces; empty if that is not known
	Created   time.Time
	Expires   time.Time     // when the CA drops it; zero if it did not say
	Key       crypto.Signer // nil until the certificate is about to be asked for
	Inherited bool          // another process placed it, and may have left answers to its challenges

	// Progress. To lose it costs at most another order.
	Stalls   int       // conversations that ended while the CA decided nothing about its authorization
	Accepted bool      // the CA accepted the certificate request
	Missing  time.Time // since when the CA has replied with 404 or 410 only, or zero
	Unfit    time.Time // when a certificate came that does not fit, or zero
}

const (
	// unfinishedFor is how long an order without an expiry can be resumed, and how
	// long no new order is placed after a certificate that does not fit.
	unfinishedFor = 24 * time.Hour

	// maxUnfinishedFor bounds a CA's expiry. Let's Encrypt's orders live for 7 days.
	maxUnfinishedFor = 30 * 24 * time.Hour

	// missingFor is how long an order or its certificate can be unknown to the CA.
	missingFor = time.Hour
)

// end returns when the order is given up.
func (o *Unfinished) end() time.Time {
	end := o.Created.Add(unfinishedFor)
	if o.Expires.After(o.Created) {
		end = pace.Earlier(o.Expires, o.Created.Add(maxUnfinishedFor))
	}
	if !o.Unfit.IsZero() {
		end = pace.Earlier(end, o.Unfit.Add(unfinishedFor))
	}
	return end
}

// asOf returns a copy that does not claim to be from the future: a clock that was
// ahead, and was set back since, must not make the order be resumed for longer.
func (o *Unfinished) asOf(now time.Time) *Unfinished {
	at := *o
	at.Created = pace.Earlier(o.Created, now)
	at.Missing = pace.Earlier(o.Missing, now)
	at.Unfit = pace.Earlier(o.Unfit, now)
	return &at
}

// isResumable reports whether a client can resume the order now.
func (o *Unfinished) isResumable(client *acme.Client, now time.Time) bool {
	return o.Account == client.KID && o.Directory == client.DirectoryURL && now.Before(o.end()) &&
		(o.Key != nil || o.Stalls < maxStalls)
}

// noteReply notes whether the CA still knows the order and its certificate. It
// returns an *endedError if it has not for missingFor.
func (o *Unfinished) noteReply(err error, now time.Time) error {
	problem, isProblem := acmeclient.Problem(err)
	_, noReply := errors.AsType[*acmeclient.RequestError](err)
	switch {
	case isProblem && isGone(problem):
		if o.Missing.IsZero() {
			o.Missing = now.Round(0)
		}
		if missing := now.Sub(o.Missing); missing >= missingFor {
			return &endedError{err: fmt.Errorf("the CA has not known order %s or its certificate for %s: %w", o.URL, missing.Round(time.Minute), err)}
		}
	case !noReply:
		o.Missing = time.Time{}
	}
	return err
}

// ErrExpired is Request.Accept's error for a certificate that has expired since
// its order was placed: the CA issued it, and it could not be downloaded for longer
// than it is valid.
var ErrExpired = errors.New("its certificate expired before it could be downloaded")

// endedError is the reason why an order can no longer yield a certificate.
type endedError struct {
	err     error
	instead bool // another order may be placed at once: that is likely to succeed
}

func (e *endedError) Error() string { return e.err.Error() }
func (e *endedError) Unwrap() error { return e.err }

// isEnded reports whether an order can be given up after err.
func isEnded(err error) bool {
	_, ended := errors.AsType[*endedError](err)
	return ended
}
