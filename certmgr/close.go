package certmgr

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/text"
)

// closeGrace is how long Close waits for callbacks whose context has ended.
const closeGrace = 5 * time.Second

// Close ends all background work (issuances, renewals, cache writes), waits for
// its goroutines, and then for the delivery of events. Afterwards certificates
// in memory are still served, nothing new begins, and all other calls return
// ErrClosed. If callbacks ignore the end of their context, the error names them
// after 5 s, and an Audit that does not return within 5 s more. Closing again
// waits for the first call and returns nil.
func (m *Manager) Close() error {
	m.init()
	s := m.engine
	ctx, cancel := context.WithTimeout(context.Background(), closeGrace)
	defer cancel()
	if s.closing.Swap(true) {
		select { // another Close is running
		case <-s.closed:
		case <-ctx.Done():
		}
		return nil
	}
	defer close(s.closed)
	s.unwatch()
	s.tasks.Close()
	var errs []error
	if err := s.tasks.Wait(ctx); err != nil {
		errs = append(errs, fmt.Errorf("certmgr: close: background work has not ended: %w", err))
	}
	for _, c := range slices.Backward(s.callouts) {
		errs = append(errs, c.Wait(ctx))
	}
	errs = append(errs, s.ca.Close(ctx), s.flushCache(ctx))
	s.server.handshakes.reportAll()
	s.reports.reportAll()
	s.audit.Emit(audit.Event{Kind: audit.ManagerClosed, CA: s.dir})
	flush, cancelFlush := context.WithTimeout(context.Background(), closeGrace)
	defer cancelFlush()
	errs = append(errs, s.audit.Flush(flush))
	return text.Join(errs...)
}
