package main

import (
	"context"
	"crypto/tls"
	"errors"
)

// measureHot measures the handshake that matters most: the certificate is in
// memory.
func measureHot(ctx context.Context, l *lab, s sizes) ([]sample, error) {
	if err := l.open(ctx); err != nil {
		return nil, err
	}
	if err := l.visitAll(ctx, l.site.hosts); err != nil {
		return nil, err
	}
	return l.loop(ctx, arrivals(l.site.hosts), s.window, func(hello *tls.ClientHelloInfo) error {
		cert, err := l.subject.get(hello)
		if err == nil && cert == nil {
			err = errors.New("neither a certificate nor an error")
		}
		return err
	})
}
