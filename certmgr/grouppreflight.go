package certmgr

import (
	"context"
	"errors"
	"sync"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/preflight"
	"github.com/nostall/nostall/internal/order"
	"github.com/nostall/nostall/internal/probe"
)

// precheckGroup is precheck for all names of a group. With preflight.Enforce, those
// that lead elsewhere leave the order before it is placed.
func (c *conversation) precheckGroup(ctx context.Context) error {
	var mu sync.Mutex
	later := func(f func(context.Context) bool) {
		mu.Lock()
		defer mu.Unlock()
		c.cleanup.Later(f)
	}
	found := make(map[string]probe.Result)
	names := c.ofGroup.names
	eachHost(ctx, names, func(host string) {
		res := c.checker.Check(ctx, host, later)
		mu.Lock()
		defer mu.Unlock()
		found[host] = res
	})
	if ctx.Err() != nil {
		return errors.New("the preflight was cut short")
	}
	elsewhere := make(map[string]error)
	var first error
	for _, name := range names {
		res := found[name]
		e := audit.Event{
			Kind:     audit.HostUnreachable,
			Host:     name,
			Stage:    audit.StagePreflight,
			Decision: audit.Allowed,
			Rule:     "Preflight: " + c.preflight.String(),
			Err:      res.Err,
		}
		switch {
		case res.Verdict == probe.Here:
			continue
		case res.Verdict == probe.Undecided:
			e.Decision = audit.Undecided
		case res.Verdict == probe.Elsewhere && c.preflight == preflight.Enforce:
			e.Decision = audit.Refused
			elsewhere[name] = res.Err
			if first == nil {
				first = res.Err
			}
		}
		c.emit(e)
	}
	if first == nil || len(elsewhere) == len(names) {
		return first
	}
	return &order.NamesError{Failed: elsewhere, Err: first}
}
