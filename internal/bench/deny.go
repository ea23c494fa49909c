package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
)

var errDenied = errors.New("denied by the policy")

// measureDeny measures a scanner's handshake, for a name that a function
// refuses.
func measureDeny(ctx context.Context, l *lab, s sizes) ([]sample, error) {
	l.site.policy = func(context.Context, string) error { return errDenied }
	if err := l.open(ctx); err != nil {
		return nil, err
	}
	names := make([]string, s.denied)
	for i := range names {
		names[i] = fmt.Sprintf("denied-%05d.example.org", i)
	}
	return l.loop(ctx, arrivals(names), s.window, func(hello *tls.ClientHelloInfo) error {
		_, err := l.subject.get(hello)
		if !errors.Is(err, errDenied) {
			return fmt.Errorf("the policy's refusal became %v", err)
		}
		return nil
	})
}
