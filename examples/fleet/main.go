// Fleet shows two servers that share a store, behind a load balancer: for a new
// host one of them gets a certificate and the other waits for it, and when the
// one is killed in the middle of that, the other takes over. There is nothing to
// install:
//
//	GOWORK=off go -C examples/fleet run .
//
// The servers are processes of their own (this program, started again), so that
// one can really be killed. The store is an SQLite file, which processes of one
// machine can share; on several machines it would be PostgreSQL, MariaDB or
// Redis, and nothing else would change. The CA is a fake one
// (certmgr/acmetest), and everything is on loopback. The program ends by itself
// after some seconds, with status 1 if anything is not as described.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/nostall/nostall/certmgr/acmetest"
)

const (
	// lease is how long a server that was killed keeps the others from issuing.
	// The default is 30 s.
	lease = 4 * time.Second

	first  = "www.example.com"
	second = "shop.example.com"

	limit = time.Minute // of each step
)

func main() {
	if len(os.Args) == 3 && os.Args[1] == "-server" { // internal: starts a server's process
		exit(runServer(os.Args[2]))
	}
	exit(run())
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "fleet:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// fleet is what runs.
type fleet struct {
	ca         *acmetest.Server
	balancer   *balancer
	east, west *machine
	story      *story
}

func run() error {
	dir, err := os.MkdirTemp("", "nostall-fleet-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	f := &fleet{ca: acmetest.NewServer(), story: newStory()}
	defer f.ca.Close()
	if f.balancer, err = startBalancer(); err != nil {
		return err
	}
	defer f.balancer.close()
	f.ca.Resolve("*", acmetest.Target{TLSAddr: f.balancer.addr()}) // the CA too comes through it

	s := setup{Store: filepath.Join(dir, "store.db"), Directory: f.ca.URL, Root: f.ca.RootPEM(), Hosts: []string{first, second}}
	for name, m := range map[string]**machine{"east": &f.east, "west": &f.west} {
		if *m, err = startMachine(name, s, f.story); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		defer (*m).kill()
		f.balancer.add((*m).addr)
	}
	fmt.Printf("Two servers, east and west, share an SQLite file.\nA load balancer is at %s, a fake CA at\n%s.\n",
		f.balancer.addr(), f.ca.URL)

	err = errors.Join(f.newHost(), f.takeover())
	if err == nil {
		fmt.Println("\nEverything was as it should be.")
	}
	return err
}

// newHost has the same new host visited on both servers at once.
func (f *fleet) newHost() error {
	f.story.chapter(first + ": a new host, visited on both servers at once")
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	var visitors sync.WaitGroup
	failed := make([]error, 2)
	for i, m := range []*machine{f.east, f.west} {
		visitors.Go(func() { failed[i] = untilServed(ctx, m.addr, first, f.ca.Roots()) })
	}
	visitors.Wait()
	if err := errors.Join(failed...); err != nil {
		return err
	}
	return f.finalized(first)
}

// takeover kills east while the CA issues a certificate for it, and visits a host
// that is served, all the time.
func (f *fleet) takeover() error {
	f.story.chapter(second + ": east is killed in the middle of an issuance")
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	visitors := startVisitors(ctx, f.balancer.addr(), first, f.ca.Roots())
	defer visitors.end()

	slow := f.ca.Stall(acmetest.Match{Endpoint: acmetest.Finalize, Host: second, Count: 1})
	go func() { _ = visit(ctx, f.east.addr, second, f.ca.Roots()) }() // begins the issuance, and fails
	if err := f.ca.WaitUntil(ctx, "a request to finalize", func() bool { return slow.Acted() > 0 }); err != nil {
		return err
	}
	go func() { _ = visit(ctx, f.west.addr, second, f.ca.Roots()) }() // finds that east is at it
	holder, err := f.west.holder(ctx, second)
	if err != nil {
		return err
	}
	f.story.line("", "west's status page: "+holder)
	f.balancer.remove(f.east.addr)
	f.east.kill()
	killed := time.Now()
	f.story.line("east", "is killed (kill -9)")
	if err := untilServed(ctx, f.west.addr, second, f.ca.Roots()); err != nil {
		return err
	}
	f.story.line("", fmt.Sprintf("it is served %.1f s after the kill, with a lease of %v", time.Since(killed).Seconds(), lease))
	served, failed := visitors.end()
	f.story.line("", fmt.Sprintf("visits of %s meanwhile: %d, failed: %d", first, served, len(failed)))
	return errors.Join(append(failed, f.finalized(second))...)
}

// finalized prints and checks how many orders there were for a host.
func (f *fleet) finalized(host string) error {
	orders := 0
	for _, o := range f.ca.Orders() {
		if strings.Join(o.Hosts, " ") == host {
			orders++
		}
	}
	issued := len(f.ca.IssuedFor(host))
	accounts := len(f.ca.Accounts())
	f.story.line("", fmt.Sprintf("the CA has seen %d order for it, %d certificate, %d account", orders, issued, accounts))
	if orders != 1 || issued != 1 || accounts != 1 {
		return errors.New("that should be one of each")
	}
	return nil
}
