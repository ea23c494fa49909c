package sim

import (
	"context"
	"crypto/tls"
	"fmt"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/pace"
)

const (
	pressureAt  = 5 // of crowdEvery episodes
	flapTimes   = 30
	flapMost    = 5 // orders within an hour
	siegeNames  = 400
	siegePeriod = 3 * pace.AccountWindow
)

// flap takes a new host off the list and puts it back, again and again, during its
// attempts. They must be paced.
func (w *world) flap(n int) {
	h := w.addHost(fmt.Sprintf("www.flap%d.example", n))
	i := &incident{incidentPlan: &incidentPlan{name: "list that flaps"}}
	w.mu.Lock()
	h.trouble[i] = true
	w.mu.Unlock()
	fault := w.ca.Delay(acmetest.Match{Endpoint: acmetest.Challenge, Host: h.name}, 10*time.Second)
	for range flapTimes {
		w.visit(h)
		w.sleepUntil(time.Now().Add(time.Second))
		w.remove(h)
		w.sleepUntil(time.Now().Add(time.Second))
		w.addAgain(h)
	}
	fault.Lift()
	if got := w.ca.CountHost(acmetest.NewOrder, h.name); got > flapMost {
		w.violated(h, "%d orders in a minute, want %d at most", got, flapMost)
	}
	if !w.visitUntil(h, time.Now().Add(time.Hour+time.Minute)) {
		w.violated(h, "no certificate an hour after the list was flapping")
	}
	w.checkRequests()
	w.remove(h)
}

// besiege has strangers ask a Manager that allows any host for made-up names, one
// a second. The hosts on its list must get their certificates all the same.
func (w *world) besiege(n int) {
	w.sleepUntil(time.Now().Add(siegePeriod))
	var listed []string
	for i := range 3 {
		listed = append(listed, fmt.Sprintf("www%d.listed%d.example", i, n))
	}
	m := &certmgr.Manager{
		Prompt:        certmgr.AcceptTOS,
		Cache:         w.cache,
		Hosts:         certmgr.MustAllowlist(listed...),
		HostPolicy:    certmgr.AllowAnyHost,
		HandshakeWait: 10 * time.Second,
		OrderBudget:   pace.AccountOrders,
		Client:        &acme.Client{DirectoryURL: w.ca.URL, HTTPClient: w.ca.Client()},
		Audit:         func(context.Context, audit.Event) {},
	}
	defer m.Close()
	get := func(name string) error {
		_, err := m.GetCertificate(&tls.ClientHelloInfo{ServerName: name})
		return err
	}
	for _, name := range listed {
		w.ca.Resolve(name, acmetest.Target{TLSConfig: m.TLSConfig()})
	}
	for i := range siegeNames {
		w.visits.Go(func() { get(fmt.Sprintf("www.made-up%d-%d.com", n, i)) })
		w.sleepUntil(time.Now().Add(time.Second))
	}
	for _, name := range listed {
		if err := get(name); err != nil {
			w.violated(nil, "strangers keep a host on the list from its certificate: %v", err)
		}
	}
	w.visits.Wait()
	w.checkRequests()
	w.sleepUntil(time.Now().Add(siegePeriod))
	w.issued.take()
}
