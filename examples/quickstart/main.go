// Quickstart shows what certmgr does, against a fake CA in this process and over real TLS connections on loopback: a
// certificate is issued for the first visitor, served from memory, and served from the cache after a restart; a host
// that is not allowed is refused, and a host whose validation fails is explained.
//
//	go run ./examples/quickstart
//
// It needs no network, no root and no port of its own, and ends by itself.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
)

const (
	goodHost   = "www.example.com"
	movedHost  = "login.example.com" // on the list, but its name leads to another machine
	deniedHost = "evil.example.net"
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "quickstart-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	ca := acmetest.NewServer()
	defer ca.Close()
	fmt.Printf("A fake CA listens at %s\n", ca.URL)

	// What a real server writes too, but for Client: without it the CA is Let's Encrypt.
	newManager := func() *certmgr.Manager {
		return &certmgr.Manager{
			Prompt: certmgr.AcceptTOS,
			Cache:  certmgr.DirCache(dir),
			Hosts:  certmgr.MustAllowlist(goodHost, movedHost),
			Client: &acme.Client{DirectoryURL: ca.URL, HTTPClient: ca.Client()},
			Audit:  printEvent,
		}
	}

	site, err := startSite(ca, newManager())
	if err != nil {
		return err
	}
	defer func() { site.stop() }()
	fmt.Printf("An HTTPS server with certmgr listens at %s\n", site.addr)
	if err := firstVisitor(ctx, site); err != nil {
		return err
	}
	if err := fromMemory(ctx, site); err != nil {
		return err
	}
	site.stop()
	if site, err = startSite(ca, newManager()); err != nil {
		return err
	}
	if err := afterRestart(ctx, site); err != nil {
		return err
	}
	if err := denied(ctx, site); err != nil {
		return err
	}
	if err := failing(ctx, site); err != nil {
		return err
	}
	fmt.Printf("\nThat is all. The CA got %d requests and issued %d certificate.\n", ca.Count(acmetest.Any), len(ca.Issued()))
	return nil
}

// printEvent is the audit hook: a real server logs the events (certmgr.AuditLog).
func printEvent(_ context.Context, e certmgr.Event) {
	line := fmt.Sprintf("   event: %s", e.Kind)
	if e.Host != "" {
		line += " " + e.Host
	}
	if !e.RetryAt.IsZero() {
		line += fmt.Sprintf(", next attempt in %v", time.Until(e.RetryAt).Round(time.Second))
	}
	fmt.Println(line)
}
