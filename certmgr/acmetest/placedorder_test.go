package acmetest_test

import (
	"crypto/x509"
	"reflect"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr/acmetest"
)

func TestOrdersAreListedWithWhatBecameOfThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := profiled("classic")
		defer s.Close()
		s.FailValidation("failed.example.com", "", acmetest.Problem{Type: "urn:ietf:params:acme:error:caa", Detail: "no CAA for you"})
		c := newRawClient(t, s)
		begin := time.Now()
		first := c.newLeaf("www.example.com")
		time.Sleep(time.Hour)
		replacing := c.replace(acmetest.CertID(first), "www.example.com", "new.example.com")
		fault := s.StuckProcessing("stuck.example.com")
		_, stuck := c.ready("stuck.example.com")
		c.finalize(stuck, csr(t, newECKey(t), x509.CertificateRequest{}, "stuck.example.com"))
		_, failed := c.ready("failed.example.com")
		c.orderProfile("tlsserver", "old.example.com")

		type line struct {
			status, profile, problem string
			inFlight                 bool
		}
		var got []line
		orders := s.Orders()
		for _, o := range orders {
			l := line{o.Status, o.Profile, "", o.InFlight()}
			if o.Problem != nil {
				l.problem = o.Problem.Type
			}
			if o.Account != c.kid {
				t.Errorf("account %q", o.Account)
			}
			got = append(got, l)
		}
		if want := []line{
			{"valid", "classic", "", false},
			{"pending", "classic", "", true},
			{"processing", "classic", "", true},
			{"invalid", "classic", "caa", false},
			{"pending", "tlsserver", "", true},
		}; !reflect.DeepEqual(got, want) {
			t.Fatalf("orders\n%v, want\n%v", got, want)
		}
		o := orders[0]
		if !o.Certificate.Equal(first) || o.Replaces != "" || !o.Created.Equal(begin) || !o.Expires.After(o.Created) {
			t.Errorf("first order: %+v", o)
		}
		o = orders[1]
		if o.URL != replacing.header.Get("Location") || o.Replaces != acmetest.CertID(first) || o.Certificate != nil ||
			!slices.Equal(o.Hosts, []string{"new.example.com", "www.example.com"}) || !o.Created.Equal(begin.Add(time.Hour)) {
			t.Errorf("second order: %+v", o)
		}

		// Copies only: changes of the list do not affect the CA.
		orders[1].Hosts[0], orders[3].Problem.Detail = "other.example.com", "other"
		again := s.Orders()
		if again[1].Hosts[0] != "new.example.com" || again[3].Problem.Detail != "no CAA for you" {
			t.Errorf("the list is not a copy: %+v, %+v", again[1], again[3])
		}

		fault.Lift()
		for s.Orders()[2].InFlight() {
			time.Sleep(time.Second)
		}
		if o := s.Orders()[2]; o.Status != "valid" || o.Certificate == nil {
			t.Errorf("the stuck order: %+v", o)
		}
		time.Sleep(8 * day)
		if o := s.Orders()[1]; o.Status != "invalid" || o.Problem != nil || o.InFlight() {
			t.Errorf("the expired order: %+v", o)
		}
		if a := c.get(failed.authorizations()[0]); a.str("status") != "invalid" {
			t.Errorf("the failed authorization: %s", a.body)
		}
	})
}
