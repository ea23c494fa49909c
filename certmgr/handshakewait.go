package certmgr

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	"github.com/nostall/nostall/internal/flight"
)

// handshake is one that memory alone cannot answer.
type handshake struct {
	host  string
	want  keyTypePrefs
	hello *tls.ClientHelloInfo // nil in the background
	asker *asker               // the client, in the background
	began time.Time
	wait  time.Duration // for the issuance that it begins; 0 if it does not wait
	until time.Time     // when all its waits end; zero in the background, which has no visitor
}

// callbackWait is how long a handshake waits for policy and cache together if
// HandshakeWait is negative. Without it, a restart would refuse the hosts whose
// certificates are in the Cache. It is longer than one call that hangs, whose
// own error says more.
const callbackWait = 6 * time.Second

// prefetchWait is HandshakeWait for a hello without a context, unless that is
// set. TLS stacks set a context, so a program has made the hello to have a
// certificate issued: it calls once, and takes an error for a failure. It is as
// long as autocert waits.
const prefetchWait = 5 * time.Minute

func (s *server) newHandshake(hello *tls.ClientHelloInfo, host string, want keyTypePrefs) handshake {
	wait := s.settings.handshakeWait
	if hello.Context() == nil {
		wait = s.settings.prefetchWait
	}
	now := time.Now()
	return handshake{
		host:  host,
		want:  want,
		hello: hello,
		wait:  wait,
		began: now,
		until: now.Add(cmp.Or(wait, callbackWait)),
	}
}

// inBackground reports whether nobody waits for it.
func (hs handshake) inBackground() bool { return hs.until.IsZero() }

// askedBy returns the client. That of most scanners is never needed.
func (hs handshake) askedBy() asker {
	if hs.hello == nil {
		return *hs.asker
	}
	return askerOf(hs.hello)
}

// left returns how long it may still wait, but at most d.
func (hs handshake) left(d time.Duration) time.Duration { return min(d, time.Until(hs.until)) }

// permit asks the gate, within the handshake's time. It is called at began.
func (s *server) permit(ctx context.Context, hs handshake, began time.Time) decision {
	if hs.inBackground() {
		return s.gate.permitInTask(ctx, hs.host, hs.asker)
	}
	if !s.gate.policy.mayBlock() {
		return s.gate.permitFor(ctx, hs.host, flight.Caller{For: hs.hello})
	}
	d := s.gate.permitFor(ctx, hs.host, flight.Caller{Now: began, Until: hs.until, For: hs.hello})
	left, ok := d.err.(*flight.Left)
	if !ok {
		return d
	}
	if left.Began {
		s.goOn(hs, func(ctx context.Context, hs handshake) { s.serve(ctx, hs) })
	}
	if ctx.Err() != nil {
		return d
	}
	return undecided(hs.late(ErrPolicy, began, "the host is not refused, try again"))
}

// load loads the certificate, within the handshake's time.
func (s *server) load(ctx context.Context, hs handshake, g grant) (*certificate, error) {
	if hs.inBackground() {
		return s.loader.loadInTask(ctx, hs.host, hs.want, g)
	}
	began := time.Now()
	in, cancel := context.WithDeadline(ctx, hs.until)
	defer cancel()
	cert, err := s.loader.load(in, hs.host, hs.want, g)
	left, ok := err.(*flight.Left)
	if !ok {
		return cert, err
	}
	if left.Began {
		s.goOn(hs, func(ctx context.Context, hs handshake) { s.find(ctx, hs, g) })
	}
	if ctx.Err() != nil {
		return nil, err
	}
	return nil, hs.late(ErrCache, began, "it is still being read, try again")
}

// late returns the error of a handshake whose time is up.
func (hs handshake) late(kind error, began time.Time, text string) error {
	return &refusal{
		kind:  kind,
		host:  hs.host,
		text:  fmt.Sprintf("no answer within %v; %s", time.Since(began).Round(time.Millisecond), text),
		cause: context.DeadlineExceeded,
	}
}

// goOn does the rest of a handshake in the background, which has begun what it did
// not wait for. The next visitor finds the outcome: if policy and cache are
// slower than any visitor may wait, or wants to, nobody would ever get a
// certificate otherwise.
func (s *server) goOn(hs handshake, rest func(ctx context.Context, hs handshake)) {
	a := hs.askedBy()
	hs.asker, hs.hello, hs.until = &a, nil, time.Time{}
	s.rest.Start(cacheRead{hs.host, hs.want}, func(ctx context.Context) (struct{}, error) {
		rest(ctx, hs)
		return struct{}{}, nil
	})
}

// join is for handshakes that find an issuance in flight: they fail at once,
// unless InFlightWait lets them wait.
func (s *server) join(ctx context.Context, hs handshake, call *issueCall) (*certificate, error) {
	return s.await(ctx, hs, call, s.settings.inFlightWait)
}

// await waits for an issuance, but at most d, and within the handshake's time.
func (s *server) await(ctx context.Context, hs handshake, call *issueCall, d time.Duration) (*certificate, error) {
	cert, err := call.WaitFor(ctx, hs.left(d))
	if err == flight.ErrNotYet || errors.Is(err, ErrBusy) && !call.Ended() {
		return nil, inFlight(call)
	}
	return cert, err
}

// awaitLed waits for the issuance that the handshake began. If another machine
// turns out to issue already, the handshake has joined that issuance.
func awaitLed(ctx context.Context, s *server, hs handshake, call *issueCall) (*certificate, error) {
	here := issuanceOf(call).away.here
	in, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(here, cancel)()
	cert, err := s.await(in, hs, call, hs.wait)
	if _, left := err.(*flight.Left); left && here.Err() != nil && ctx.Err() == nil {
		return s.join(ctx, hs, call)
	}
	return cert, err
}

func inFlight(call *issueCall) error {
	sub := call.Key
	if at := issuanceOf(call).away.at.Load(); at != nil {
		return at.refusal
	}
	of := ""
	if sub.group {
		of = " for the group of " + sub.host()
	}
	return &refusal{kind: ErrInFlight, host: sub.host(), since: call.Since,
		text: fmt.Sprintf("%s certificate%s at stage %q", sub.alg, of, issuanceOf(call).getStage())}
}
