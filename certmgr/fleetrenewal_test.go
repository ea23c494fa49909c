package certmgr_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/audit"
)

// In a year three machines that have started with the same hosts renew each of them
// once when it is due, and all of them serve the new certificates.
func TestFleetRenewsOnce(t *testing.T) {
	t.Parallel()
	atSite(t, func(t *testing.T, s *site) {
		var hosts []string
		for i := range 6 {
			hosts = append(hosts, fmt.Sprintf("h%d.example.com", i))
		}
		for range 3 {
			s.machine(hosts...)
		}
		s.await(s.machines[0], hosts[0], 10*time.Second) // the account
		for _, m := range s.machines {
			if err := m.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		issued := 0
		for range 52 {
			time.Sleep(7 * day)
			for _, host := range hosts {
				for _, m := range s.machines {
					s.await(m, host, 0)
				}
			}
		}
		for _, host := range hosts {
			n := len(s.ca.IssuedFor(host))
			if valid, all := s.orders(host); n < 6 || n > 7 || valid != n || all != n {
				t.Errorf("%s: %d certificates, %d of %d orders are valid", host, n, valid, all)
			}
			issued += n
		}
		for _, m := range s.machines {
			n := len(m.events.of(audit.CertificateIssued))
			if n == 0 {
				t.Errorf("%s has %d of %d certificates issued", m.name, n, issued)
			}
			if failed := m.events.of(audit.IssuanceFailed); len(failed) > 0 {
				t.Errorf("%s: %v", m.name, failed)
			}
		}
	})
}

// The certificates of both key types of a host have one lock.
func TestFleetOrdersBothKeyTypesOnce(t *testing.T) {
	atSite(t, func(t *testing.T, s *site) {
		const host = "a.example.com"
		machines := []*machine{s.machine(host), s.machine(host)}
		s.await(machines[0], host, 10*time.Second)
		rsa := &tls.ClientHelloInfo{ServerName: host, SignatureSchemes: []tls.SignatureScheme{tls.PKCS1WithSHA256}, CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}}
		for range 50 {
			for _, m := range machines {
				s.await(m, host, 2*time.Second)
				go m.GetCertificate(rsa)
			}
			time.Sleep(200 * time.Millisecond)
		}
		time.Sleep(time.Minute)
		for _, m := range machines {
			if _, err := m.GetCertificate(rsa); err != nil {
				t.Errorf("%s: %v", m.name, err)
			}
		}
		if n := len(s.ca.Orders()); n > 2 {
			t.Errorf("%d orders", n)
		}
	})
}

// A group is ordered once, also by visits of different members on different machines.
func TestFleetOrdersGroupsOnce(t *testing.T) {
	atSite(t, func(t *testing.T, s *site) {
		names := []string{"a.example.com", "b.example.com", "c.example.com"}
		for range 3 {
			m := s.machine()
			if err := m.Hosts.AddGroup(names...); err != nil {
				t.Fatal(err)
			}
		}
		for i, m := range s.machines {
			m.begin(t, names[i])
		}
		time.Sleep(10 * time.Second)
		for _, m := range s.machines {
			for _, host := range names {
				s.await(m, host, 2*time.Second)
			}
		}
		synctest.Wait()
		if n := len(s.ca.Issued()); n != 1 {
			t.Errorf("%d certificates", n)
		}
	})
}

// Obtain waits for the machine that issues, as for an issuance of its own.
func TestFleetObtainWaitsForTheHolder(t *testing.T) {
	atSite(t, func(t *testing.T, s *site) {
		const host = "a.example.com"
		first, second := s.machine(host), s.machine(host)
		defer s.ca.SlowValidation(host, 5*time.Second).Lift()
		first.begin(t, host)
		time.Sleep(time.Second)
		if err := second.Obtain(t.Context(), host); err != nil {
			t.Error(err)
		}
		if _, all := s.orders(host); all != 1 {
			t.Errorf("%d orders", all)
		}
	})
}

// A lease that no store can give is a bad setting, and the default applies.
func TestFleetLeaseIsASetting(t *testing.T) {
	for lease, bad := range map[time.Duration]bool{0: false, time.Second: false, time.Minute: false, time.Millisecond: true, -1: true} {
		atSite(t, func(t *testing.T, s *site) {
			m := s.machine("a.example.com")
			m.Lease = lease
			if err := m.Start(t.Context()); errors.Is(err, certmgr.ErrBadSetting) != bad {
				t.Errorf("%v: Start returned %v", lease, err)
			}
			s.await(m, "a.example.com", 10*time.Second)
		})
	}
}
