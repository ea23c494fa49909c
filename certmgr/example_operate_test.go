package certmgr_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
)

// A certificate before the first client, as when a customer adds a domain.
func ExampleManager_Obtain() {
	ca := acmetest.NewMemoryServer()
	defer ca.Close()
	m := &certmgr.Manager{
		Prompt: certmgr.AcceptTOS,
		Hosts:  certmgr.MustAllowlist("www.example.com"),
		Client: &acme.Client{DirectoryURL: ca.URL, HTTPClient: ca.Client()},
	}
	defer m.Close()
	ca.Resolve("www.example.com", acmetest.Target{TLSConfig: m.TLSConfig()})

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	fmt.Println(m.Obtain(ctx, "www.example.com"))
	fmt.Println(m.Obtain(ctx, "www.example.com"), "from memory, orders:", ca.Count(acmetest.NewOrder))
	err := m.Obtain(ctx, "www.example.org")
	fmt.Println("not on the list:", errors.Is(err, certmgr.ErrHostNotAllowed))
	// Output:
	// <nil>
	// <nil> from memory, orders: 1
	// not on the list: true
}

// How each host stands: for a page, an alert or a command of an operator.
func ExampleManager_Snapshot() {
	ca := acmetest.NewMemoryServer()
	defer ca.Close()
	m := &certmgr.Manager{
		Prompt: certmgr.AcceptTOS,
		Hosts:  certmgr.MustAllowlist("blog.example.com", "shop.example.com"),
		Client: &acme.Client{DirectoryURL: ca.URL, HTTPClient: ca.Client()},
	}
	defer m.Close()
	ca.Resolve("shop.example.com", acmetest.Target{TLSConfig: m.TLSConfig()})
	m.Obtain(context.Background(), "shop.example.com")
	m.Obtain(context.Background(), "blog.example.com") // this name leads nowhere

	for _, host := range m.Snapshot().Hosts {
		fmt.Println(host.Host, host.State)
		if host.Failure != nil {
			fmt.Println("  failed at stage", host.Failure.Stage)
		} else {
			fmt.Println("  renewal due before its end:", host.RenewAt.Before(host.NotAfter))
		}
	}
	// Output:
	// blog.example.com backing off
	//   failed at stage challenge
	// shop.example.com valid
	//   renewal due before its end: true
}

// Entries that look as if they should be taken off the list. Nothing is stale that
// has not been watched for that long.
func ExampleManager_StaleHosts() {
	hosts := certmgr.MustAllowlist("www.example.com", "moved.example.com")
	m := &certmgr.Manager{Prompt: certmgr.AcceptTOS, Hosts: hosts}
	defer m.Close()

	for _, stale := range m.StaleHosts(30 * 24 * time.Hour) {
		log.Printf("%s: %s", stale.Entry, stale.Reason)
		hosts.Because(stale.Reason).Remove(stale.Entry)
	}
	fmt.Println(hosts.Contains("moved.example.com"))
	// Output: true
}
