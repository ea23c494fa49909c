package order

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/acmeclient"
	"github.com/nostall/nostall/internal/bundle"
	"github.com/nostall/nostall/internal/challenge"
)

const host = "a.example.com"

// site is a server for host, an account with a CA that reaches it, and what
// conversations reported.
type site struct {
	t       *testing.T
	ca      *acmetest.Server
	client  *acme.Client
	stored  map[string]bool // keys of answers in the Cache
	slow    bool            // the Cache deletes nothing in time
	answers *challenge.Answers
	stages  []audit.Stage
	events  []audit.Event
	cleanup Cleanup
	kept    *Unfinished // by the last call of Keep
	keeps   int         // calls of Keep
}

// at runs f in a bubble. configure changes the CA before it starts. Its replies
// do not wait for validations, so that authorizations are polled.
func at(t *testing.T, f func(t *testing.T, s *site), configure ...func(*acmetest.Server)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &site{t: t, ca: acmetest.NewUnstartedServer(), stored: make(map[string]bool)}
		s.ca.ValidateInReply = acmetest.Never
		for _, c := range configure {
			c(s.ca)
		}
		s.ca.StartMemory()
		defer s.ca.Close()
		s.answers = challenge.NewAnswers(s)
		s.ca.Resolve(host, acmetest.Target{
			TLSConfig: &tls.Config{
				NextProtos: []string{acme.ALPNProto},
				GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
					return s.answers.Certificate(hello.ServerName), nil
				},
			},
			HTTPHandler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Write(s.answers.KeyAuthorization(r.Host, strings.TrimPrefix(r.URL.Path, challenge.Path)))
			}),
		})
		s.client = acmeclient.New(acmeclient.Config{DirectoryURL: s.ca.URL, HTTPClient: s.ca.Client()}).Client(newKey(t), "")
		if _, err := s.client.Register(t.Context(), &acme.Account{}, acme.AcceptTOS); err != nil {
			t.Fatal(err)
		}
		f(t, s)
		if t.Failed() {
			t.Log(s.ca)
		}
	})
}

func newKey(t *testing.T) crypto.Signer {
	t.Helper()
	key, err := bundle.GenerateKey(bundle.P256)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// Put and Delete make it the Store of its answers.
func (s *site) Put(_ context.Context, key string, _ []byte) error {
	s.stored[key] = true
	return nil
}

func (s *site) Delete(ctx context.Context, key string) error {
	if s.slow {
		<-ctx.Done()
		return ctx.Err()
	}
	delete(s.stored, key)
	return nil
}

func (s *site) DeleteLater(string, []byte) {}

// request returns a Request for host that tries tls-alpn-01 first.
func (s *site) request() Request {
	return Request{
		Names:     []string{host},
		Algorithm: bundle.ECDSA,
		Key:       func(context.Context, string) (crypto.Signer, error) { return bundle.GenerateKey(bundle.P256) },
		Before: func(context.Context) ([]string, error) {
			return []string{challenge.TLSALPN01, challenge.HTTP01}, nil
		},
		Accept:   func(time.Time, [][]byte, *x509.Certificate) error { return nil },
		Profile:  func(context.Context) (string, error) { return "", nil },
		Order:    func(bool) (func(bool, error), error) { return func(bool, error) {}, nil },
		Present:  s.answers.Present,
		Withdraw: s.answers.Withdraw,
		Stage:    func(stage audit.Stage) { s.stages = append(s.stages, stage) },
		Event:    func(e audit.Event) { s.events = append(s.events, e) },
		Now:      time.Now,
		Cleanup:  &s.cleanup,
		Keep: func(_ context.Context, u *Unfinished) {
			s.kept = u
			s.keeps++
		},
	}
}

// run is Run with the time-out of an attempt. A certificate ends the need for its
// order.
func (s *site) run(req Request) (Result, error) {
	ctx, cancel := context.WithTimeout(s.t.Context(), 3*time.Minute)
	defer cancel()
	res, err := Run(ctx, s.client, req)
	if s.answers.Awaits(req.Names[0]) {
		s.t.Error("the answer to a challenge is left when the conversation is over")
	}
	if err == nil {
		if s.kept == nil || s.kept.Key != res.Key || s.kept.URL != res.OrderURL {
			s.t.Errorf("with the certificate, %+v was kept", s.kept)
		}
		s.kept = nil
	}
	return res, err
}

// must is run that must return a certificate for the key in the result.
func (s *site) must(req Request) Result {
	s.t.Helper()
	res, err := s.run(req)
	if err != nil {
		s.t.Fatalf("%v\n%v", err, s.ca)
	}
	if _, err := bundle.Check([]string{host}, bundle.ECDSA, res.Key, res.Chain); err != nil {
		s.t.Error(err)
	}
	if !slices.Equal(res.Leaf.Raw, res.Chain[0]) || s.kept != nil || res.Refuted {
		s.t.Errorf("leaf is the chain's first: %v; unfinished %v, refuted %v",
			slices.Equal(res.Leaf.Raw, res.Chain[0]), s.kept, res.Refuted)
	}
	return res
}

// orders returns the number of orders at the CA.
func (s *site) orders() int { return len(s.ca.Orders()) }
