package certmgr

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/cache"
	"github.com/nostall/nostall/internal/account"
	"github.com/nostall/nostall/internal/acmeclient"
	"github.com/nostall/nostall/internal/bundle"
	"github.com/nostall/nostall/internal/flight"
	"github.com/nostall/nostall/internal/hosts"
)

// Revoke revokes the certificate of host for each key type: the one in memory
// or, if there is none, in the Cache. The host need not be allowed any more.
// reason must be one that the CA accepts, such as acme.CRLReasonKeyCompromise
// or acme.CRLReasonSuperseded; revoking an already revoked certificate is not
// an error.
//
// The certificate of a group (see Allowlist.AddGroup) is revoked for all its
// names.
//
// A revoked certificate leaves memory, Cache and renewal, and this process
// never serves it again, whatever the Cache holds. TLS sessions from before are
// not resumed (see TLSConfig). If the host is allowed, a new one is issued at
// once in the background, ignoring backoff, or loaded from the Cache if another
// machine has renewed it. The exception is
// acme.CRLReasonCessationOfOperation: remove the host from Hosts as well, or
// its next handshake begins an issuance. Other machines serve the revoked
// certificate until they renew it, or Revoke is called there too.
//
// The account signs the request. If the CA does not let it, or there is no
// account, the certificate's own key signs; Let's Encrypt treats that as
// CRLReasonKeyCompromise.
//
// If ctx ends first, Revoke returns early; the revocation continues. Without a
// certificate the error wraps ErrCacheMiss. If the error names the CA, the
// certificate is still served; call Revoke again.
func (m *Manager) Revoke(ctx context.Context, host string, reason acme.CRLReasonCode) error {
	s, host, err := m.operateOn(host)
	if err != nil {
		return err
	}
	return s.revokeNow(ctx, host, revocation{reason: reason})
}

// revocation says why a certificate is revoked, and on whose behalf if that is
// known.
type revocation struct {
	reason acme.CRLReasonCode
	actor  string
}

// revokeNow is Revoke.
func (s *operator) revokeNow(ctx context.Context, host string, why revocation) error {
	what := fmt.Sprintf("revoking the certificate of %s (%s)", host, reasonName(why.reason))
	call, err := s.revokes.Start(what, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, s.operatorError(what, s.revoke(ctx, host, why)...)
	})
	if err != nil {
		return withHost(err, host)
	}
	_, err = call.Await(ctx)
	if _, left := err.(*flight.Left); left {
		return s.operatorError(what, goesOn(err))
	}
	return err
}

// revokeTimeout is the time-out of revoking one certificate at the CA.
const revokeTimeout = 2 * time.Minute

// errNoCertificate: there is nothing to revoke.
var errNoCertificate = fmt.Errorf("no valid one is in memory or in the Cache: %w", ErrCacheMiss)

func (s *operator) revoke(ctx context.Context, host string, why revocation) []error {
	certs, errs := s.revocable(ctx, host)
	if len(certs) == 0 && len(errs) == 0 {
		return []error{errNoCertificate}
	}
	for len(certs) > 0 {
		more, err := s.revokeOne(ctx, certs[0], why)
		if err != nil {
			errs = append(errs, err)
		}
		certs = append(certs[1:], more...)
	}
	return errs
}

// revocable returns the certificates of host that could be served.
func (s *operator) revocable(ctx context.Context, host string) (certs []*certificate, errs []error) {
	for alg := range bundle.Algorithm(bundle.Algorithms) {
		sub := s.subject(host, alg)
		if cert := at(s.memory, host, alg); cert != nil && cert.usable(s.now()) {
			certs = append(certs, cert)
			continue
		}
		for _, key := range s.entriesOf(ctx, sub, host) {
			data, err := s.store.get(ctx, key)
			if errors.Is(err, ErrCacheMiss) {
				continue
			}
			if err != nil {
				errs = append(errs, err)
				continue
			}
			cert, err := certificateFromBundle(s.ownSubject(host, alg), data, s.now())
			if err == nil {
				cert.entry = key
				certs = append(certs, cert.as(sub))
			} else if _, expired := err.(expiredEntry); !expired {
				errs = append(errs, fmt.Errorf("the entry %q of the Cache: %w", key, err))
			}
		}
	}
	return certs, errs
}

// revokeOne revokes a certificate and takes it out of service. more holds a
// further certificate to revoke: a renewal that kept a compromised key and came
// in between.
func (s *operator) revokeOne(ctx context.Context, cert *certificate, why revocation) (more []*certificate, err error) {
	sub, reason := cert.subject, why.reason
	what := fmt.Sprintf("%s certificate %x", sub.alg, cert.leaf.SerialNumber)
	id := fmt.Sprintf("revocation of %x (%s)", cert.leaf.SerialNumber, reasonName(reason))
	in, cancel := flight.Within(ctx, revokeTimeout, "no answer")
	defer cancel()
	by, err := flight.CallOut(in, s.issuer.orders.calls, id, func(ctx context.Context) (string, error) { return s.revokeAtCA(ctx, cert, reason) })
	if err != nil {
		return nil, fmt.Errorf("%s at %s: %w", what, s.dir, err)
	}
	compromised := reason == acme.CRLReasonKeyCompromise || by == byOwnKey
	other, news := s.takeOut(cert, compromised)
	if other != nil {
		more = append(more, other)
	}
	if news {
		e := certEvent(audit.CertificateRevoked, cert)
		e.Reason = fmt.Sprintf("%s, signed by %s", reasonName(reason), by)
		e.Actor = why.actor
		s.audit.Emit(e)
	}
	// Close does not interrupt this: a restart would find the certificate.
	if err = s.deleteRevoked(context.WithoutCancel(ctx), cert); err != nil {
		s.deleteLater(cert)
		err = fmt.Errorf("%s is revoked and out of service here, but still in the Cache: %w", what, err)
	}
	if s.issuer.issues.Running(sub) == nil { // an issuance in flight has a newer order
		s.forgetOrder(ctx, sub)
	}
	if reason != acme.CRLReasonCessationOfOperation {
		s.tasks.Go(func(ctx context.Context) { s.replaceRevoked(ctx, sub) })
	}
	return more, err
}

// The signer of a revocation.
const (
	byAccount = "the account"
	byOwnKey  = "the certificate's key"
)

// revokeAtCA revokes a certificate at the CA, and returns who signed the
// request.
func (s *operator) revokeAtCA(ctx context.Context, cert *certificate, reason acme.CRLReasonCode) (by string, err error) {
	err = s.revokeByAccount(ctx, cert, reason)
	if err == nil {
		return byAccount, nil
	}
	if !mayNotRevoke(err) {
		return "", err
	}
	own := s.issuer.orders.ca.Client(cert.key, "").RevokeCert(ctx, cert.key, cert.leaf.Raw, reason)
	if own == nil {
		return byOwnKey, nil
	}
	return "", fmt.Errorf("%w; with the certificate's own key: %w", err, acmeclient.Cause(own))
}

func (s *operator) revokeByAccount(ctx context.Context, cert *certificate, reason acme.CRLReasonCode) error {
	trace := new(acmeclient.Trace)
	ctx = acmeclient.WithTrace(ctx, trace)
	for again := false; ; again = true {
		acc, err := s.issuer.orders.accounts.Get(ctx)
		if err != nil {
			return fmt.Errorf("account: %w", err)
		}
		err = s.issuer.orders.ca.Client(acc.Key, acc.URL).RevokeCert(ctx, nil, cert.leaf.Raw, reason)
		if err == nil || again || !s.issuer.orders.accounts.Outdated(ctx, acc, trace, err) {
			return acmeclient.Cause(err)
		}
	}
}

// mayNotRevoke reports whether the account cannot revoke the certificate, so
// that the certificate's own key should try.
func mayNotRevoke(err error) bool {
	if account.IsUnavailable(err) || account.IsGone(err) {
		return true
	}
	e, ok := acmeclient.Problem(err)
	return ok && (e.StatusCode == http.StatusUnauthorized || e.StatusCode == http.StatusForbidden)
}

// takeOut ends the service and the renewal of a revoked certificate, for good.
// It returns a certificate with the same, compromised key that was in memory in
// its place, if any, and whether the revocation is new.
func (s *operator) takeOut(cert *certificate, compromised bool) (other *certificate, news bool) {
	// In this order, a certificate issued in between is on the schedule in the
	// end.
	s.schedule.drop(cert.subject)
	removed, news := s.memory.bar(cert, compromised, s.now())
	if c := s.memory.current(cert.subject); c != nil {
		s.schedule.planLoaded(c)
	}
	if removed != nil && !removed.leaf.Equal(cert.leaf) {
		other = removed
	}
	return other, news
}

// replaceRevoked replaces a revoked certificate if the host is still allowed. A
// failure is retried as after a failed Start.
func (s *operator) replaceRevoked(ctx context.Context, sub subject) {
	d := s.gate.permit(ctx, sub.host())
	if d.is != audit.Allowed {
		return // the next handshake asks the policy again
	}
	g := d.grant
	_, err := s.loader.read(ctx, sub, g, quietly)
	if errors.Is(err, ErrCacheMiss) {
		err = s.issueAgain(ctx, sub, g)
	}
	if errors.Is(err, errRevoked) { // an issuance in flight had the compromised key
		err = s.issueAgain(ctx, sub, g)
	}
	if err != nil && err != errRenewed && ctx.Err() == nil && s.settings.hosts.match(sub.host()) == hosts.Exact {
		s.schedule.at(sub, s.health.retryAt(sub))
	}
}

func (s *operator) issueAgain(ctx context.Context, sub subject, g grant) error {
	req := issueRequest{
		sub:      sub,
		grant:    g,
		reason:   "the last one was revoked",
		priority: urgentRenewal,
		override: true,
	}
	call, err := s.issuer.begin(req, func() error {
		if s.memory.current(sub) != nil {
			return errRenewed
		}
		return nil
	})
	if err != nil {
		return err
	}
	if _, err := call.Await(ctx); err != nil {
		return err
	}
	if s.memory.current(sub) == nil {
		return errRevoked
	}
	return nil
}

// deleteRevoked deletes a certificate's entry from the Cache, unless the entry
// holds another one by now.
func (s *operator) deleteRevoked(ctx context.Context, cert *certificate) error {
	is := func(data []byte) bool {
		_, chain, err := bundle.Decode(data)
		return err == nil && bytes.Equal(chain[0], cert.leaf.Raw)
	}
	err := s.issuer.locks.fleet.alone(ctx, cert.subject, func(ctx context.Context) error { return s.store.deleteIf(ctx, cert.entry, is) })
	if _, held := errors.AsType[*cache.HeldError](err); held {
		if data, err := s.store.read(ctx, s.store.reads, cert.entry); errors.Is(err, ErrCacheMiss) || err == nil && !is(data) {
			return nil
		}
	}
	return err
}

// forgetOrder forgets the order of a revoked certificate's successor, unless another
// machine has a newer one in flight.
func (s *operator) forgetOrder(ctx context.Context, sub subject) {
	orders := s.issuer.orders.unfinished
	orders.drop(sub)
	s.issuer.locks.fleet.alone(ctx, sub, func(ctx context.Context) error {
		orders.forget(ctx, sub)
		return nil
	})
}

// deleteLater retries deleteRevoked in the background until it succeeds.
func (s *operator) deleteLater(cert *certificate) {
	s.tasks.Go(func(ctx context.Context) {
		flight.Retry(ctx, func(ctx context.Context) (done bool) {
			if s.deleteRevoked(ctx, cert) != nil {
				return false
			}
			s.audit.Emit(audit.Event{Kind: audit.CacheWriteRecovered, Host: cert.subject.host(), KeyType: cert.subject.alg.String()})
			return true
		})
	})
}

// reasonName returns the name of a reason (RFC 5280, section 5.3.1).
func reasonName(reason acme.CRLReasonCode) string {
	names := map[acme.CRLReasonCode]string{
		acme.CRLReasonUnspecified:          "unspecified",
		acme.CRLReasonKeyCompromise:        "keyCompromise",
		acme.CRLReasonCACompromise:         "cACompromise",
		acme.CRLReasonAffiliationChanged:   "affiliationChanged",
		acme.CRLReasonSuperseded:           "superseded",
		acme.CRLReasonCessationOfOperation: "cessationOfOperation",
		acme.CRLReasonCertificateHold:      "certificateHold",
		acme.CRLReasonRemoveFromCRL:        "removeFromCRL",
		acme.CRLReasonPrivilegeWithdrawn:   "privilegeWithdrawn",
		acme.CRLReasonAACompromise:         "aACompromise",
	}
	if name, ok := names[reason]; ok {
		return name
	}
	return fmt.Sprintf("reason %d", int(reason))
}
