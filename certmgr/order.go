package certmgr

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/acmeclient"
	"github.com/nostall/nostall/internal/bundle"
	"github.com/nostall/nostall/internal/challenge"
	"github.com/nostall/nostall/internal/text"
)

// attempt is one try to have a certificate issued: the conversation with the
// CA, with a client of its own.
type attempt struct {
	id       string
	host     string
	sub      subject
	types    []string // challenge types to try, in this order
	replaces string   // CertID of the certificate that is renewed
	client   *acme.Client
	trace    *acmeclient.Trace
	kept     func() crypto.Signer // the key to use, or nil for a new one; asked as late as can be
	present  func(ctx context.Context, client *acme.Client, chal *acme.Challenge, host string) (*challenge.Answer, error)
	setStage func(audit.Stage)
	now      func() time.Time
	audit    func(audit.Event)
	extra    []pkix.Extension
	stage    audit.Stage
	worked   string    // challenge type of the authorization, if one was needed
	wanted   time.Time // when it was asked for, before any queue
	began    time.Time // when it got its slot
	order    string    // URL of the order, once there is one
	pending  []string  // authorizations to deactivate if the attempt fails
	cleanup  []func(context.Context)

	unfinished *unfinishedOrder // of an earlier attempt, then of this one

	preflight *preflight // nil: off
	checked   bool       // before the order
	refuted   bool       // the CA failed a challenge
}

// attemptTimeout bounds an attempt, once it has its issuance slot.
const attemptTimeout = 3 * time.Minute

func (a *attempt) enter(s audit.Stage) {
	a.stage = s
	a.setStage(s)
}

// run orders, proves control, finalizes and downloads.
func (a *attempt) run(ctx context.Context) (crypto.Signer, [][]byte, *x509.Certificate, error) {
	key, chain, err := a.certify(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	a.unfinished = nil
	leaf, err := bundle.Check(a.host, a.sub.keyType, key, chain)
	if err == nil {
		err = bundle.CheckChain(chain)
	}
	if err != nil {
		return nil, nil, nil, fmt.Errorf("the CA's certificate does not fit: %w", acmeclient.Cause(err))
	}
	return key, chain, leaf, nil
}

// certify returns a chain of the CA for a key: from the order that an earlier
// attempt did not finish, or else from a new one.
func (a *attempt) certify(ctx context.Context) (crypto.Signer, [][]byte, error) {
	if a.unfinished != nil {
		if key, chain, err := a.resume(ctx); err != errAbandoned {
			return key, chain, err
		}
	}
	if err := a.precheck(ctx); err != nil {
		return nil, nil, err
	}
	order, err := a.authorizedOrder(ctx)
	if err != nil {
		return nil, nil, a.diagnose(ctx, err)
	}
	a.enter(audit.StageFinalize)
	key := a.kept()
	if key == nil {
		if key, err = bundle.GenerateKey(a.sub.keyType); err != nil {
			return nil, nil, err
		}
	}
	csr, err := a.request(key)
	if err != nil {
		return nil, nil, fmt.Errorf("certificate request: %w", err)
	}
	a.unfinished = &unfinishedOrder{url: order.URI, key: key, account: a.client.KID, since: a.now()}
	chain, err := a.finalize(ctx, order, csr)
	return key, chain, err
}

// maxAuthorizations bounds those of an order; one name needs one (RFC 8555,
// section 7.1.3).
const maxAuthorizations = 4

// authorizedOrder returns an order that can be finalized. A challenge that
// fails makes its authorization invalid and with it the order (RFC 8555,
// section 7.1.6), so each type that is tried after that has an order of its own.
func (a *attempt) authorizedOrder(ctx context.Context) (*acme.Order, error) {
	types := slices.Clone(a.types)
	var causes []error
	for {
		a.enter(audit.StageOrder)
		order, err := a.newOrder(ctx)
		if err != nil {
			return nil, errors.Join(append(causes, acmeclient.Cause(err))...)
		}
		a.order = order.URI
		if n := len(order.AuthzURLs); n > maxAuthorizations {
			return nil, errors.Join(append(causes, fmt.Errorf("order %s has %d authorizations for one name", order.URI, n))...)
		}
		switch order.Status {
		case acme.StatusReady:
			return order, nil // authorized by earlier orders
		case acme.StatusPending:
		default:
			return nil, errors.Join(append(causes, orderFailed(order))...)
		}
		typ, err := a.authorize(ctx, order, types)
		if err == nil {
			a.worked = typ
			return order, nil
		}
		causes = append(causes, err)
		// Only another challenge type can do better at once.
		types = slices.DeleteFunc(types, func(t string) bool { return t == typ })
		if typ == "" || len(types) == 0 || ctx.Err() != nil {
			return nil, errors.Join(causes...)
		}
	}
}

// newOrder makes an order, which says what it replaces: that spares it the CA's
// rate limits. If the CA cannot bear to hear it, it hears no more of it.
func (a *attempt) newOrder(ctx context.Context) (*acme.Order, error) {
	order, without, err := acmeclient.NewOrder(ctx, a.client, acme.DomainIDs(a.host), a.replaces)
	if without {
		a.replaces = ""
	}
	return order, err
}

func orderFailed(o *acme.Order) error {
	if o.Error != nil {
		return fmt.Errorf("order %s is %s: %w", o.URI, brief(o.Status), acmeclient.BoundProblem(o.Error))
	}
	return fmt.Errorf("order %s is %q and the CA gives no reason", o.URI, brief(o.Status))
}

// authorize satisfies the pending authorizations of an order with the first of
// types that they offer. typ is set if a challenge of that type was failed by
// the CA, or passed.
func (a *attempt) authorize(ctx context.Context, order *acme.Order, types []string) (typ string, err error) {
	for _, url := range order.AuthzURLs {
		a.enter(audit.StageAuthorization)
		a.pending = append(a.pending, url)
		z, err := a.client.GetAuthorization(ctx, url)
		if err != nil {
			return "", acmeclient.Cause(err)
		}
		switch z.Status {
		case acme.StatusValid:
			a.settled(url)
			continue
		case acme.StatusPending:
		default:
			a.settled(url)
			return "", authorizationFailed(z, nil)
		}
		chal := pickChallenge(z, types)
		if chal == nil {
			return "", fmt.Errorf("the CA offers none of the challenge types %q; it offers %q%s", types, challengeTypes(z), http01Hint(types))
		}
		typ = chal.Type
		a.enter(audit.StageChallenge)
		if failed, err := a.solve(ctx, chal, url); err != nil {
			if !failed {
				typ = ""
			}
			return typ, fmt.Errorf("%s: %w", chal.Type, err)
		}
	}
	return typ, nil
}

func http01Hint(types []string) string {
	if slices.Contains(types, challenge.HTTP01) {
		return ""
	}
	return " (http-01 is used when port 80 is served by Manager.HTTPHandler)"
}

// maxOffers is how many of the challenges that the CA offers an error names.
const maxOffers = 8

func challengeTypes(z *acme.Authorization) []string {
	var types []string
	for _, c := range z.Challenges[:min(len(z.Challenges), maxOffers)] {
		types = append(types, brief(c.Type))
	}
	return types
}

// pickChallenge returns the challenge of the first of types that is offered.
func pickChallenge(z *acme.Authorization, types []string) *acme.Challenge {
	for _, typ := range types {
		for _, c := range z.Challenges {
			if c.Type == typ {
				return c
			}
		}
	}
	return nil
}

// solve answers one challenge and waits for the CA's verdict. failed tells a
// verdict from trouble on the way to it.
func (a *attempt) solve(ctx context.Context, chal *acme.Challenge, authzURL string) (failed bool, err error) {
	answer, err := a.present(ctx, a.client, chal, a.host)
	if err != nil {
		return false, err
	}
	defer answer.Remove()
	a.later(answer.Forget)
	if _, err := a.client.Accept(ctx, chal); err != nil {
		return false, acmeclient.Cause(err)
	}
	z, err := a.pollAuthorization(ctx, authzURL)
	switch {
	case err != nil:
		return false, fmt.Errorf("%w (%s)", err, answer.Sighting())
	case z.Status == acme.StatusValid:
		a.settled(authzURL)
		return false, nil
	}
	a.settled(authzURL)
	a.refuted = true
	err = authorizationFailed(z, chal)
	a.audit(audit.Event{Kind: audit.ChallengeFailed, Stage: audit.StageChallenge, Reason: chal.Type + ": " + answer.Sighting(), Err: err})
	return true, fmt.Errorf("%w (%s)", err, answer.Sighting())
}

// later has f called when the attempt is over, whatever came of it.
func (a *attempt) later(f func(context.Context)) { a.cleanup = append(a.cleanup, f) }

// settled takes an authorization off the list of those to deactivate.
func (a *attempt) settled(url string) {
	a.pending = slices.DeleteFunc(a.pending, func(u string) bool { return u == url })
}

// authorizationFailed returns the CA's reasons. chal is the challenge that was
// tried, if any: its error is the reason, the others were not tried.
func authorizationFailed(z *acme.Authorization, chal *acme.Challenge) error {
	var causes []error
	for _, c := range z.Challenges {
		if e, ok := c.Error.(*acme.Error); ok && len(causes) < maxReasons && (chal == nil || c.Type == chal.Type) {
			causes = append(causes, acmeclient.BoundProblem(e))
		}
	}
	if len(causes) == 0 {
		return fmt.Errorf("authorization %s is %q and the CA gives no reason", text.OneLine(z.URI, text.MaxError), brief(z.Status))
	}
	return fmt.Errorf("authorization is %s: %w", brief(z.Status), errors.Join(causes...))
}

// maxReasons is how many of the CA's reasons for a failed authorization are kept. It
// fails by its first challenge, as a rule (RFC 8555, section 7.1.6).
const maxReasons = 2

// brief bounds a word of the CA's that goes into an error.
func brief(word string) string { return text.OneLine(word, 64) }

// request returns the CSR. A common name is what autocert asks for; it cannot
// be longer than 64 characters (RFC 5280, appendix A.1), the host name can.
func (a *attempt) request(key crypto.Signer) ([]byte, error) {
	tmpl := &x509.CertificateRequest{DNSNames: []string{a.host}, ExtraExtensions: a.extra}
	if len(a.host) <= 64 {
		tmpl.Subject = pkix.Name{CommonName: a.host}
	}
	return x509.CreateCertificateRequest(rand.Reader, tmpl, key)
}

// finalize sends the CSR, waits for the certificate and downloads its chain.
func (a *attempt) finalize(ctx context.Context, order *acme.Order, csr []byte) ([][]byte, error) {
	status, err := a.postFinalize(ctx, order, csr)
	if e, ok := errors.AsType[*acme.Error](err); ok && e.ProblemType == "urn:ietf:params:acme:error:orderNotReady" {
		// The order's state lags behind its authorizations' (RFC 8555, 7.4).
		if order, err = a.pollOrder(ctx, order.URI, pollFirst, acme.StatusPending); err == nil && order.Status == acme.StatusReady {
			status, err = a.postFinalize(ctx, order, csr)
		} else if err == nil {
			err = orderFailed(order)
		}
	}
	if err != nil {
		if !mayBeFinal(err) {
			a.unfinished = nil
		}
		return nil, err
	}
	// Many CAs are done with it by now; the answer does not name the
	// certificate's URL, the order does.
	first := pollFirst
	if status == acme.StatusValid {
		first = 0
	}
	done, err := a.pollOrder(ctx, order.URI, first, acme.StatusProcessing)
	if err != nil {
		return nil, err
	}
	if done.Status != acme.StatusValid || done.CertURL == "" {
		a.unfinished = nil
		return nil, orderFailed(done)
	}
	chain, err := a.client.FetchCert(ctx, done.CertURL, true)
	return chain, acmeclient.Cause(err)
}

// postFinalize sends the CSR and no more. acme.Client.CreateCertFromOrder
// would poll as well, once a second at the quickest and with no bound; Accept
// posts any payload to any URL of the CA, and reads the status and the error
// that an order has in common with a challenge.
func (a *attempt) postFinalize(ctx context.Context, order *acme.Order, csr []byte) (status string, err error) {
	payload, err := json.Marshal(map[string]string{"csr": base64.RawURLEncoding.EncodeToString(csr)})
	if err != nil {
		return "", err
	}
	reply, err := a.client.Accept(ctx, &acme.Challenge{URI: order.FinalizeURL, Payload: payload})
	if err != nil {
		return "", acmeclient.Cause(err)
	}
	return reply.Status, nil
}

// deactivateTimeout bounds the clean-up after a failed attempt.
const deactivateTimeout = 30 * time.Second

// deactivate gives up authorizations that are still pending, so that they do
// not count against the account's limit.
func (a *attempt) deactivate(ctx context.Context) {
	for _, url := range a.pending {
		if a.client.RevokeAuthorization(ctx, url) != nil {
			return // they expire by themselves
		}
	}
}
