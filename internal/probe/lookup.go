package probe

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"

	"github.com/nostall/nostall/internal/flight"
	"github.com/nostall/nostall/internal/hosts"
)

// lookup returns the addresses of host, without duplicates. An address is its
// own, and nobody is asked.
func (c *Checker) lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	if addr, ok := hosts.ParseAddress(host); ok {
		return []netip.Addr{addr}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, LookupTimeout)
	defer cancel()
	addrs, err := flight.CallOut(ctx, c.conf.Lookups, host, func(ctx context.Context) ([]netip.Addr, error) {
		resolver := c.conf.Resolver
		if resolver == nil {
			resolver = net.DefaultResolver
		}
		if r, ok := resolver.(*net.Resolver); ok {
			return lookupBy(ctx, r, host+".") // or it would try the search list too
		}
		return resolver.LookupNetIP(ctx, "ip", host)
	})
	if err != nil {
		return nil, err
	}
	var unique []netip.Addr
	for _, addr := range addrs[:min(len(addrs), maxAddrs)] {
		if addr = addr.Unmap(); addr.IsValid() && !slices.Contains(unique, addr) {
			unique = append(unique, addr)
		}
	}
	return unique, nil
}

// lookupBy returns the addresses of name. If a net.Resolver finds none, it
// returns the error that came first: that there is no IPv6 address, for
// example, while the lookup of the IPv4 one failed. In that case lookupBy asks
// for each family separately.
func lookupBy(ctx context.Context, r *net.Resolver, name string) ([]netip.Addr, error) {
	all, err := r.LookupNetIP(ctx, "ip", name)
	if !isNotFound(err) {
		return all, err
	}
	for _, network := range []string{"ip4", "ip6"} {
		addrs, failed := r.LookupNetIP(ctx, network, name)
		all = append(all, addrs...)
		if failed != nil && !isNotFound(failed) {
			err = failed
		}
	}
	if len(all) > 0 {
		err = nil
	}
	return all, err
}

// maxAddrs is the number of addresses kept from a resolver's answer.
const maxAddrs = 64

func isNotFound(err error) bool {
	e, ok := errors.AsType[*net.DNSError](err)
	return ok && e.IsNotFound
}
