package order

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/acmeclient"
	"github.com/nostall/nostall/internal/bundle"
	"github.com/nostall/nostall/internal/challenge"
)

// Request describes a conversation. The goroutine of Run calls its functions.
// Functions must not be nil.
type Request struct {
	Host     string
	KeyType  bundle.KeyType
	Extra    []pkix.Extension // for the certificate request
	Replaces string           // CertID of the certificate to be renewed, or ""

	// Unfinished is the order that the account's last conversation for the host
	// and key type did not finish, or nil.
	Unfinished *Unfinished

	// Key returns the key to use, or nil for a new one. It is called as late as
	// possible.
	Key func() crypto.Signer

	// Before is called once, before the first order, and not if an unfinished
	// order is resumed. It returns the challenge types to try, in order. If it
	// returns an error, no order is placed.
	Before func(ctx context.Context) (types []string, err error)

	// Present makes the response to a challenge available.
	Present func(ctx context.Context, client *acme.Client, chal *acme.Challenge, host string) (*challenge.Answer, error)

	Stage func(audit.Stage) // called at the beginning of each stage
	Event func(audit.Event) // called with events that lack host and CA
	Now   func() time.Time  // the wall clock

	// Cleanup receives what to do after the conversation.
	Cleanup *Cleanup
}

// Result is the result of a conversation. If it failed there is no certificate,
// and the other fields are set as far as it got.
type Result struct {
	Key      crypto.Signer
	Chain    [][]byte // DER, leaf first
	Leaf     *x509.Certificate
	OrderURL string // of the last order
	Worked   string // type of the challenge that the CA validated, if one was needed
	Refuted  bool   // it failed because validation of a challenge failed

	// Unfinished is for the account's next Request for the host and key type,
	// or nil.
	Unfinished *Unfinished
}

// conversation is one run of Run.
type conversation struct {
	req      Request
	client   *acme.Client
	replaces string // "" once the CA has failed on it
	res      Result
}

// Run orders, proves control, finalizes and downloads, with the client of an
// account. It ends with ctx, whose acmeclient.Trace records its requests. User
// code that the client calls may panic; Request.Cleanup is complete even then.
// Errors wrap the CA's *acme.Error, if there is one.
func Run(ctx context.Context, client *acme.Client, req Request) (Result, error) {
	ctx = acmeclient.WithTrace(ctx, acmeclient.TraceOf(ctx))
	c := &conversation{req: req, client: client, replaces: req.Replaces, res: Result{Unfinished: req.Unfinished}}
	err := c.run(ctx)
	return c.res, err
}

// run gets a certificate and checks it.
func (c *conversation) run(ctx context.Context) error {
	key, chain, err := c.certify(ctx)
	if err != nil {
		return err
	}
	c.res.Unfinished = nil
	chain, err = bundle.Arrange(key, chain)
	var leaf *x509.Certificate
	if err == nil {
		leaf, err = bundle.Check(c.req.Host, c.req.KeyType, key, chain)
	}
	if err != nil {
		return fmt.Errorf("the CA's certificate does not fit: %w", acmeclient.Cause(err))
	}
	c.res.Key, c.res.Chain, c.res.Leaf = key, chain, leaf
	return nil
}

// certify returns a key and its chain, from the order that an earlier
// conversation did not finish, or from a new one.
func (c *conversation) certify(ctx context.Context) (crypto.Signer, [][]byte, error) {
	if o := c.req.Unfinished; o != nil {
		if chain, err := c.resume(ctx, o); err != errAbandoned {
			return o.Key, chain, err
		}
	}
	types, err := c.req.Before(ctx)
	if err != nil {
		return nil, nil, err
	}
	order, err := c.authorizedOrder(ctx, types)
	if err != nil {
		return nil, nil, err
	}
	c.res.Refuted = false
	c.req.Stage(audit.StageFinalize)
	key := c.req.Key()
	if key == nil {
		if key, err = bundle.GenerateKey(c.req.KeyType); err != nil {
			return nil, nil, err
		}
	}
	csr, err := c.csr(key)
	if err != nil {
		return nil, nil, fmt.Errorf("certificate request: %w", err)
	}
	c.res.Unfinished = &Unfinished{URL: order.URI, Key: key, Account: c.client.KID, Since: c.req.Now()}
	chain, err := c.finalize(ctx, order, csr)
	return key, chain, err
}

// maxAuthorizations is the largest number of authorizations in an order; one
// name needs one (RFC 8555, section 7.1.3).
const maxAuthorizations = 4

// authorizedOrder returns an order that can be finalized. A challenge that
// fails makes its authorization invalid and with it the order (RFC 8555,
// section 7.1.6), so the next type needs a new order.
func (c *conversation) authorizedOrder(ctx context.Context, types []string) (*acme.Order, error) {
	types = slices.Clone(types)
	var causes []error
	for {
		c.req.Stage(audit.StageOrder)
		order, err := c.newOrder(ctx)
		if err != nil {
			return nil, errors.Join(append(causes, acmeclient.Cause(err))...)
		}
		c.res.OrderURL = order.URI
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
		typ, err := c.authorize(ctx, order, types)
		if err == nil {
			c.res.Worked = typ
			return order, nil
		}
		causes = append(causes, err)
		// Only another challenge type can succeed now.
		types = slices.DeleteFunc(types, func(t string) bool { return t == typ })
		if typ == "" || len(types) == 0 || ctx.Err() != nil {
			return nil, errors.Join(causes...)
		}
	}
}

// newOrder places an order with replaces, which exempts it from the CA's rate
// limits. Once the CA has failed on the field, it is left out.
func (c *conversation) newOrder(ctx context.Context) (*acme.Order, error) {
	order, without, err := acmeclient.NewOrder(ctx, c.client, acme.DomainIDs(c.req.Host), c.replaces)
	if without {
		c.replaces = ""
	}
	return order, err
}

func orderFailed(o *acme.Order) error {
	if acmeclient.GivesReason(o.Error) {
		return fmt.Errorf("order %s is %s: %w", o.URI, brief(o.Status), acmeclient.BoundProblem(o.Error))
	}
	return fmt.Errorf("order %s is %q and the CA gave no reason", o.URI, brief(o.Status))
}

// csr returns the certificate request. Like autocert's it has a common name,
// unless the host exceeds the limit of 64 characters (RFC 5280, appendix A.1).
func (c *conversation) csr(key crypto.Signer) ([]byte, error) {
	tmpl := &x509.CertificateRequest{DNSNames: []string{c.req.Host}, ExtraExtensions: c.req.Extra}
	if len(c.req.Host) <= 64 {
		tmpl.Subject = pkix.Name{CommonName: c.req.Host}
	}
	return x509.CreateCertificateRequest(rand.Reader, tmpl, key)
}

// finalize sends the CSR, waits for the certificate and downloads its chain.
func (c *conversation) finalize(ctx context.Context, order *acme.Order, csr []byte) ([][]byte, error) {
	status, err := acmeclient.PostCSR(ctx, c.client, order, csr)
	if e, ok := errors.AsType[*acme.Error](err); ok && e.ProblemType == "urn:ietf:params:acme:error:orderNotReady" {
		// The order's status may lag behind its authorizations (RFC 8555,
		// section 7.4).
		if order, err = c.pollOrder(ctx, order.URI, pollFirst, acme.StatusPending); err == nil && order.Status == acme.StatusReady {
			status, err = acmeclient.PostCSR(ctx, c.client, order, csr)
		} else if err == nil {
			err = orderFailed(order)
		}
	}
	if err != nil {
		if !mayBeFinal(err) {
			c.res.Unfinished = nil
		}
		return nil, err
	}
	// Many CAs have issued by now, but the reply does not name the
	// certificate's URL; the order does.
	first := pollFirst
	if status == acme.StatusValid {
		first = 0
	}
	done, err := c.pollOrder(ctx, order.URI, first, acme.StatusProcessing)
	if err != nil {
		return nil, err
	}
	if done.Status != acme.StatusValid || done.CertURL == "" {
		c.res.Unfinished = nil
		return nil, orderFailed(done)
	}
	chain, err := c.client.FetchCert(ctx, done.CertURL, true)
	return chain, acmeclient.Cause(err)
}
