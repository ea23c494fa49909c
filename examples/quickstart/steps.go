package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
)

func title(n int, text string) { fmt.Printf("\n%d. %s\n", n, text) }

func show(format string, args ...any) { fmt.Printf("   "+format+"\n", args...) }

func firstVisitor(ctx context.Context, s *site) error {
	title(1, "The first visitor of "+goodHost+": a certificate is issued")
	a, err := s.visit(ctx, goodHost)
	if err != nil {
		return err
	}
	show("served after %v, by %s, until %s", a.took.Round(time.Millisecond), a.leaf.Issuer.CommonName, a.leaf.NotAfter.Format(time.DateOnly))
	show("the CA got %d requests", s.ca.Count(acmetest.Any))
	return nil
}

func fromMemory(ctx context.Context, s *site) error {
	title(2, "100 more visitors: service from memory")
	before := s.ca.Count(acmetest.Any)
	start := time.Now()
	for range 100 {
		if _, err := s.visit(ctx, goodHost); err != nil {
			return err
		}
	}
	show("%v for a whole connection, TLS handshake included", (time.Since(start) / 100).Round(10*time.Microsecond))
	return noRequests(s, before)
}

func afterRestart(ctx context.Context, s *site) error {
	title(3, "A restart: a new Manager with the same cache directory")
	before := s.ca.Count(acmetest.Any)
	a, err := s.visit(ctx, goodHost)
	if err != nil {
		return err
	}
	show("served after %v, from the cache", a.took.Round(10*time.Microsecond))
	return noRequests(s, before)
}

func noRequests(s *site, before int) error {
	if n := s.ca.Count(acmetest.Any) - before; n != 0 {
		return fmt.Errorf("the CA got %d requests, want none", n)
	}
	show("the CA got 0 requests")
	return nil
}

func denied(ctx context.Context, s *site) error {
	title(4, "A visitor of "+deniedHost+", which is not on the list")
	before := s.ca.Count(acmetest.Any)
	a, err := s.visit(ctx, deniedHost)
	if !errors.Is(err, certmgr.ErrHostNotAllowed) {
		return fmt.Errorf("a host that is not allowed got %w", err)
	}
	show("refused after %v: %v", a.took.Round(10*time.Microsecond), err)
	return noRequests(s, before)
}

func failing(ctx context.Context, s *site) error {
	title(5, "A visitor of "+movedHost+", which is on the list but leads to another machine")
	// DNS: the name leads to a machine that does not answer.
	s.ca.Resolve(movedHost, acmetest.Target{})
	a, err := s.visit(ctx, movedHost)
	issue, ok := errors.AsType[*certmgr.IssuanceError](err)
	if !ok {
		return fmt.Errorf("a host whose validation fails got %w", err)
	}
	show("refused after %v, with the CA's reason:", a.took.Round(time.Millisecond))
	show("%v", err)
	problem, _ := errors.AsType[*acme.Error](err)
	show("in the program: stage %q, problem type %q, next attempt in %v", issue.Stage, problem.ProblemType, time.Until(issue.RetryAt).Round(time.Second))

	title(6, "The next visitor of "+movedHost+" waits for nobody")
	before := s.ca.Count(acmetest.Any)
	a, err = s.visit(ctx, movedHost)
	if !errors.Is(err, certmgr.ErrBackoff) {
		return fmt.Errorf("the next visitor got %w", err)
	}
	show("refused after %v: %v", a.took.Round(10*time.Microsecond), err)
	if err := noRequests(s, before); err != nil {
		return err
	}
	a, err = s.visit(ctx, goodHost)
	if err != nil {
		return err
	}
	show("and %s is served as before, after %v", goodHost, a.took.Round(10*time.Microsecond))
	return nil
}
