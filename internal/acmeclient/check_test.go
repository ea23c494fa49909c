package acmeclient

import (
	"errors"
	"testing"

	"golang.org/x/crypto/acme"
)

// A check under the context of a call precedes each of its requests, retries included:
// those after it has failed are not sent, and not repeated.
func TestCheckPrecedesEachRequest(t *testing.T) {
	stop := errors.New("the lease was lost")
	for allowed := range 4 {
		s := newSite(t)
		ca := s.ca(s.Client())
		if err := s.discover(t, ca); err != nil {
			t.Fatal(err)
		}
		before, checks := len(s.Requests()), 0
		ctx := WithCheck(t.Context(), func() error {
			if checks++; checks > allowed {
				return stop
			}
			return nil
		})
		client := s.client(ca)
		order, err := client.AuthorizeOrder(ctx, acme.DomainIDs("a.example.com"))
		for err == nil && len(s.Requests())-before < 10 {
			_, err = client.GetOrder(ctx, order.URI)
		}
		if !errors.Is(Cause(err), stop) {
			t.Errorf("the error is %v", err)
		}
		if sent := len(s.Requests()) - before; sent != allowed {
			t.Errorf("%d requests were sent, want %d\n%v", sent, allowed, s)
		}
		if checks != allowed+1 {
			t.Errorf("%d checks, want %d", checks, allowed+1)
		}
	}
}
