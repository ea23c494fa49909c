package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// measureIssue measures handshakes for many hosts without a certificate at
// once.
func measureIssue(ctx context.Context, l *lab, hosts int, step time.Duration) ([]sample, error) {
	l.site.hosts = hostNames(hosts)
	l.site.ca.Processing = step
	if step == 0 {
		l.site.ca.ValidateInReply = acmetest.Always
	}
	if err := l.openToCA(ctx, step); err != nil {
		return nil, err
	}
	var all errgroup.Group
	gate := make(chan struct{})
	for _, host := range l.site.hosts {
		all.Go(func() error {
			return l.handshake(ctx, func(hello *tls.ClientHelloInfo) error {
				<-gate
				if _, err := l.subject.get(withName(hello, host)); err != nil {
					return fmt.Errorf("%s: %w", host, err)
				}
				return nil
			})
		})
	}
	cpu, began := cpuTime(), time.Now()
	close(gate)
	if err := all.Wait(); err != nil {
		return nil, err
	}
	took := time.Since(began)
	cpu = cpuTime() - cpu
	if n := len(l.site.ca.Issued()); n != hosts {
		return nil, fmt.Errorf("the CA issued %d certificates for %d hosts", n, hosts)
	}
	return []sample{
		{Metric: "wall", Unit: "ms", Value: milliseconds(took)},
		{Metric: "cpu", Unit: "ms", Value: milliseconds(cpu)},
		{Metric: "requests", Unit: "per certificate", Value: float64(l.site.ca.Count(acmetest.Any)) / float64(hosts)},
	}, nil
}
