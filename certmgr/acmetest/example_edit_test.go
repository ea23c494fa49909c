package acmetest_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"log"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// A lost reply: the CA has created the order, and the client does not know.
func ExampleServer_Edit() {
	ca := acmetest.NewMemoryServer()
	defer ca.Close()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		log.Fatal(err)
	}
	client := &acme.Client{DirectoryURL: ca.URL, HTTPClient: ca.Client(), Key: key}
	ctx := context.Background()
	account, err := client.Register(ctx, &acme.Account{}, acme.AcceptTOS)
	if err != nil {
		log.Fatal(err)
	}

	second := acmetest.Match{Endpoint: acmetest.NewOrder, Account: account.URI, After: 1, Count: 1}
	ca.Edit(second, func(r *acmetest.Reply) { r.Drop = true })
	// An order without a finalize URL.
	ca.Edit(acmetest.Match{Endpoint: acmetest.NewOrder, Host: "odd.example.com"}, func(r *acmetest.Reply) {
		r.EditObject(func(order map[string]any) { delete(order, "finalize") })
	})
	for _, host := range []string{"a.example.com", "b.example.com", "odd.example.com"} {
		order, err := client.AuthorizeOrder(ctx, acme.DomainIDs(host))
		if err != nil {
			fmt.Println(host, "failed,", len(ca.Orders()), "orders")
			continue
		}
		fmt.Println(host, order.Status, order.FinalizeURL != "")
	}
	// Output:
	// a.example.com pending true
	// b.example.com failed, 2 orders
	// odd.example.com pending false
}
