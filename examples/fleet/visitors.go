package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"time"
)

// visit makes a handshake for a host, and verifies the certificate.
func visit(ctx context.Context, addr, host string, roots *x509.CertPool) error {
	dialer := &tls.Dialer{Config: &tls.Config{ServerName: host, RootCAs: roots}}
	conn, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	return conn.Close()
}

// untilServed visits a host until it has a certificate.
func untilServed(ctx context.Context, addr, host string, roots *x509.CertPool) error {
	for {
		err := visit(ctx, addr, host, roots)
		if err == nil {
			return nil
		}
		if pause(ctx, 100*time.Millisecond) != nil {
			return err
		}
	}
}

// visitors visit a host all the time.
type visitors struct {
	cancel context.CancelFunc
	done   chan struct{}

	served int // once done is closed
	failed []error
}

func startVisitors(ctx context.Context, addr, host string, roots *x509.CertPool) *visitors {
	visiting, cancel := context.WithCancel(ctx)
	v := &visitors{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(v.done)
		for pause(visiting, 20*time.Millisecond) == nil {
			if err := visit(ctx, addr, host, roots); err != nil {
				v.failed = append(v.failed, err)
			} else {
				v.served++
			}
		}
	}()
	return v
}

// end ends the visits.
func (v *visitors) end() (served int, failed []error) {
	v.cancel()
	<-v.done
	return v.served, v.failed
}
