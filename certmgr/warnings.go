package certmgr

import (
	"slices"
	"sync"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/auditqueue"
)

// warnings are about how the Manager is set up: it works, but will cause
// trouble. Each is given once. The texts come from this package and there are
// few of them.
type warnings struct {
	audit *auditqueue.Queue

	mu    sync.Mutex
	given []string
}

// warn gives a warning that names the setting and says what to do, unless it
// was given before.
func (w *warnings) warn(text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if slices.Contains(w.given, text) {
		return
	}
	w.given = append(w.given, text)
	w.audit.Emit(audit.Event{Kind: audit.ConfigurationWarning, Reason: text})
}

// all returns the warnings given so far.
func (w *warnings) all() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.given)
}
