package certmgr_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"slices"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/audit"
)

// A list that changes while the server runs. Each change holds from the next
// handshake on.
func ExampleAllowlist() {
	hosts := certmgr.MustAllowlist("www.example.com")
	if err := hosts.Add("*.customers.example.com"); err != nil {
		log.Fatal(err)
	}
	hosts.Remove("www.example.com")

	fmt.Println(hosts.Contains("a.customers.example.com"), hosts.Contains("www.example.com"))
	fmt.Println(hosts.Add("*.com"))
	// Output:
	// true false
	// certmgr: invalid allowlist entry: "*.com": a wildcard directly below a public suffix, which no CA certifies
}

// Changes with their reason, for the readers of the events.
func ExampleAllowlist_Because() {
	hosts := certmgr.MustAllowlist("shop.example.com")
	m := &certmgr.Manager{
		Prompt: certmgr.AcceptTOS,
		Hosts:  hosts,
		Audit: func(_ context.Context, e audit.Event) {
			if e.Kind == audit.HostListed || e.Kind == audit.HostUnlisted {
				fmt.Println(e.Host, e.Kind, e.Reason)
			}
		},
	}
	m.Snapshot() // the Manager is in use from here on

	hosts.Because("customer 4711 left").Remove("shop.example.com")
	if err := hosts.Because("customer 4712 came").Add("blog.example.com"); err != nil {
		log.Fatal(err)
	}
	m.Close() // after all events have been told of
	// Output:
	// shop.example.com host_unlisted customer 4711 left
	// blog.example.com host_listed customer 4712 came
}

// A list from a file. A Manager that uses it follows the file by itself; Reload
// reads it at once.
func ExampleOpenAllowlist() {
	dir, err := os.MkdirTemp("", "hosts")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "hosts.txt")
	write := func(content string) {
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			log.Fatal(err)
		}
	}

	write("www.example.com # the shop\n*.example.org\n")
	hosts, err := certmgr.OpenAllowlist(file)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(slices.Sorted(hosts.All()))

	write("www.example.com\n")
	fmt.Println(hosts.Reload(), slices.Sorted(hosts.All()))

	write("www.example.com\nlocalhost\n") // a list with a mistake is refused whole
	fmt.Println(hosts.Reload() != nil, slices.Sorted(hosts.All()))
	// Output:
	// [*.example.org www.example.com]
	// <nil> [www.example.com]
	// true [www.example.com]
}
