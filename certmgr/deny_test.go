package certmgr_test

import (
	"context"
	"errors"
	"testing"

	"golang.org/x/crypto/acme/autocert"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/cache"
)

var errDenied = errors.New("not a customer")

func denies(context.Context, string) error { return errDenied }

// deniers returns who refuses a name by a function, by names for benchmarks.
func deniers() map[string]getter {
	manager := func(policy certmgr.HostPolicy) getter {
		return &certmgr.Manager{
			Prompt:     certmgr.AcceptTOS,
			Cache:      new(cache.Memory),
			HostPolicy: policy,
			Audit:      func(context.Context, audit.Event) {},
		}
	}
	return map[string]getter{
		"certmgr":             manager(denies),
		"certmgr-nonblocking": manager(certmgr.NonBlocking(denies)),
		"autocert":            &autocert.Manager{Prompt: autocert.AcceptTOS, Cache: new(cache.Memory), HostPolicy: denies},
	}
}

// A scanner that a policy refuses costs one allocation, that of the call, and one
// more if the policy says that it does not block.
func TestRefusalByAPolicyAllocatesLittle(t *testing.T) {
	hello := benchHello(t, "denied.example.org")
	for name, most := range map[string]float64{"certmgr": 1, "certmgr-nonblocking": 2} {
		g := deniers()[name]
		n := testing.AllocsPerRun(1000, func() {
			if _, err := g.GetCertificate(hello); err != errDenied {
				t.Fatal(err)
			}
		})
		if n > most {
			t.Errorf("%s: %v allocations, want %v at most", name, n, most)
		}
		closeGetter(t, g)
	}
}

// BenchmarkDenyByPolicy is a scanner's handshake for a name that a function refuses.
func BenchmarkDenyByPolicy(b *testing.B) {
	hello := benchHello(b, "denied.example.org")
	for _, name := range []string{"certmgr", "certmgr-nonblocking", "autocert"} {
		g := deniers()[name]
		b.Run("mode=serial/impl="+name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := g.GetCertificate(hello); err != errDenied {
					b.Fatal(err)
				}
			}
		})
		b.Run("mode=parallel/impl="+name, func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := g.GetCertificate(hello); err != errDenied {
						b.Error(err)
						return
					}
				}
			})
		})
		closeGetter(b, g)
	}
}
