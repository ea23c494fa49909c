package certmgr

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/cache"
	"github.com/nostall/nostall/internal/bundle"
	"github.com/nostall/nostall/internal/flight"
	"github.com/nostall/nostall/internal/hosts"
)

// PruneOptions say what Manager.Prune does.
type PruneOptions struct {
	// OlderThan is how long ago certificates must have ended. Zero or negative
	// means 30 days.
	OlderThan time.Duration

	// Delete has what is found deleted. Without it, Prune only reports.
	Delete bool
}

// A PruneReport says what Manager.Prune has found. The entries that it counts may
// have changed since.
type PruneReport struct {
	Entries      int // all of the Cache's
	Certificates int // those that hold a certificate
	Prunable     int // those whose certificate ended long ago and whose hosts are not allowed
	Deleted      int // of those
	Unreadable   int // those that should hold a certificate, and hold something else or cannot be read: they stay
	Other        int // those of all other kinds, which are not read: they stay

	// Keys are those of the first 1,000 prunable entries, in no order.
	Keys []string
}

// Prune looks through the Cache for certificates that ended long ago and whose hosts
// are not allowed, by Hosts or HostPolicy, and reports them; with
// PruneOptions.Delete, it deletes them. Everything else stays: certificates of
// hosts that are allowed, or about which HostPolicy cannot decide, the account's key,
// records, and entries that are damaged or that certmgr does not know. An entry that
// has changed since it was looked at stays, too. The machines that share a Cache
// should have the same list; one that lacks hosts deletes nothing that another one
// could serve.
//
// It reads all certificates, 100 at a time. Run it when little is going on, and no
// more often than once a day. One call at a time works; another one waits for its
// end. After an error the report says what was done before. The error wraps
// ErrClosed after Close, errors.ErrUnsupported if the Cache is not a cache.Lister,
// and ErrCache if it cannot be read. An audit.CachePruned event says how many
// entries were deleted.
func (m *Manager) Prune(ctx context.Context, opts PruneOptions) (PruneReport, error) {
	m.init()
	s := m.engine.operator
	const what = "pruning the Cache"
	lister, ok := cache.As[cache.Lister](s.settings.cache)
	if !ok {
		return PruneReport{}, s.operatorError(what, fmt.Errorf("Manager.Cache cannot list its keys, which takes a cache.Lister: %w", errors.ErrUnsupported))
	}
	if opts.OlderThan <= 0 {
		opts.OlderThan = 30 * 24 * time.Hour
	}
	p := &pruning{operator: s, opts: opts, before: s.now().Add(-opts.OlderThan)}
	var report PruneReport
	var err error
	done := make(chan struct{})
	began := s.tasks.Go(func(tasksCtx context.Context) {
		defer close(done)
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(tasksCtx, cancel)()
		report, err = flight.CallOut(ctx, s.prunes, "", func(ctx context.Context) (PruneReport, error) {
			err := p.run(ctx, lister)
			return p.report, err
		})
	})
	if !began {
		return PruneReport{}, ErrClosed
	}
	<-done
	if report.Deleted > 0 {
		s.audit.Emit(audit.Event{
			Kind:   audit.CachePruned,
			Count:  report.Deleted,
			Reason: fmt.Sprintf("certificates that ended more than %v ago, of hosts that are not allowed", opts.OlderThan),
		})
	}
	if err != nil {
		return report, s.operatorError(what, err)
	}
	return report, nil
}

// pruning is one call of Prune.
type pruning struct {
	*operator
	opts   PruneOptions
	before time.Time // when certificates must have ended
	report PruneReport
	errs   []error
}

const (
	// pruneBatch is how many entries are read at a time.
	pruneBatch = 100

	// maxPruneKeys is how many keys the report has.
	maxPruneKeys = 1_000

	// maxPruneErrors is after how many errors of single entries a pruning ends.
	maxPruneErrors = 10
)

// run looks through all entries.
func (p *pruning) run(ctx context.Context, lister cache.Lister) error {
	var batch []string
	for key, err := range lister.Keys(ctx) {
		if err != nil {
			return &refusal{kind: ErrCache, text: "listing its keys", cause: err}
		}
		p.report.Entries++
		if !isCertificateKey(key) {
			p.report.Other++
			continue
		}
		if batch = append(batch, key); len(batch) < pruneBatch {
			continue
		}
		if err := p.look(ctx, batch); err != nil {
			return err
		}
		batch = batch[:0]
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := p.look(ctx, batch); err != nil {
		return err
	}
	return errors.Join(p.errs...)
}

// isCertificateKey reports whether a key is that of a certificate, of a host or of
// a group.
func isCertificateKey(key string) bool {
	base, suffix, _ := strings.Cut(key, "+")
	if suffix != "" && suffix != "rsa" || strings.HasPrefix(base, "acme_account") {
		return false
	}
	if isGroupCacheKey(base, bundle.ECDSA) {
		return true
	}
	host := hostOfKey(base)
	normal, err := hosts.NormalizeAny(host)
	return err == nil && normal == host
}

// look looks at the entries of a batch. The error ends the pruning.
func (p *pruning) look(ctx context.Context, keys []string) error {
	if len(keys) == 0 {
		return nil
	}
	entries, err := p.many.getMany(ctx, keys)
	if err != nil && (len(entries) == 0 || ctx.Err() != nil) {
		return &refusal{kind: ErrCache, text: "reading certificates", cause: err}
	}
	for _, key := range keys {
		data, ok := entries[key]
		switch {
		case ok:
			p.lookAt(ctx, key, data)
		case err != nil: // it may be this one that cannot be read
			p.report.Unreadable++
		}
		if ctx.Err() != nil || len(p.errs) == maxPruneErrors {
			return errors.Join(append(p.errs, ctx.Err())...)
		}
	}
	return nil
}

// lookAt looks at one entry.
func (p *pruning) lookAt(ctx context.Context, key string, data []byte) {
	leaf, names, ok := prunableLeaf(key, data)
	if !ok {
		p.report.Unreadable++
		return
	}
	p.report.Certificates++
	if !leaf.NotAfter.Before(p.before) || p.isAnyAllowed(ctx, names) {
		return
	}
	p.report.Prunable++
	if len(p.report.Keys) < maxPruneKeys {
		p.report.Keys = append(p.report.Keys, key)
	}
	if !p.opts.Delete {
		return
	}
	unchanged := false
	err := p.store.deleteIf(ctx, key, func(now []byte) bool {
		unchanged = bytes.Equal(now, data)
		return unchanged
	})
	if err != nil {
		p.errs = append(p.errs, err)
	} else if unchanged {
		p.report.Deleted++
	}
}

// prunableLeaf returns the certificate of an entry, and the hosts for which it may be
// served.
func prunableLeaf(key string, data []byte) (leaf *x509.Certificate, names []string, ok bool) {
	_, chain, err := bundle.Decode(data)
	if err != nil {
		return nil, nil, false
	}
	if leaf, err = x509.ParseCertificate(chain[0]); err != nil {
		return nil, nil, false
	}
	if host := hostOfKey(key); host != "" {
		return leaf, []string{host}, leaf.VerifyHostname(host) == nil
	}
	return leaf, leaf.DNSNames, len(leaf.DNSNames) > 0
}

// isAnyAllowed reports whether one of these hosts is allowed, as far as is known.
func (p *pruning) isAnyAllowed(ctx context.Context, names []string) bool {
	for _, host := range names {
		if d := p.gate.permitInTask(ctx, strings.ToLower(host), nil); d.is != audit.Refused {
			return true
		}
	}
	return false
}
