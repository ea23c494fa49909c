package certmgr_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/audit"
)

// A Manager without list and policy says so at its first use, once, with the line
// to add. Start returns it.
func TestManagerThatAllowsNobodySaysSo(t *testing.T) {
	const line = `set Hosts: certmgr.MustAllowlist("`
	uses := map[string]func(w *world){
		"a handshake":  func(w *world) { w.get("a.example.com") },
		"a bad name":   func(w *world) { w.get("") },
		"the snapshot": func(w *world) { w.m.Snapshot() },
		"Obtain":       func(w *world) { w.m.Obtain(w.t.Context(), "a.example.com") },
		"Start": func(w *world) {
			err := w.m.Start(w.t.Context())
			if !errors.Is(err, certmgr.ErrHostNotAllowed) || !strings.Contains(err.Error(), line) {
				w.t.Errorf("Start: %v", err)
			}
		},
	}
	for name, use := range uses {
		t.Run(name, func(t *testing.T) {
			policyWorld(t, nil, func(t *testing.T, w *world) {
				w.m.TLSConfig()
				w.m.HTTPHandler(nil)
				if n := len(w.events.of(audit.ConfigurationWarning)); n != 0 {
					t.Fatal("a warning before the first use, when fields may still be set")
				}
				use(w)
				use(w)
				w.get("other.example.com")
				told := w.events.of(audit.ConfigurationWarning)
				if len(told) != 1 || !strings.Contains(told[0].Reason, line) {
					t.Errorf("warnings: %v; want one that has %q", told, line)
				}
				if all := w.m.Snapshot().Warnings; len(all) != 1 || all[0] != told[0].Reason {
					t.Errorf("the snapshot has %q", all)
				}
			})
		})
	}
}

// A list that is empty, or a policy alone, is another matter.
func TestListThatIsEmptyAtFirstIsNoMistake(t *testing.T) {
	for name, set := range map[string]func(m *certmgr.Manager){
		"an empty list": func(m *certmgr.Manager) { m.Hosts = certmgr.MustAllowlist() },
		"a zero list":   func(m *certmgr.Manager) { m.Hosts = new(certmgr.Allowlist) },
		"a policy":      func(m *certmgr.Manager) { m.HostPolicy = denies },
	} {
		t.Run(name, func(t *testing.T) {
			policyWorld(t, nil, func(t *testing.T, w *world) {
				set(w.m)
				if err := w.m.Start(t.Context()); err != nil {
					t.Errorf("Start: %v", err)
				}
				w.get("a.example.com")
				if told := w.events.of(audit.ConfigurationWarning); len(told) != 0 {
					t.Errorf("warnings: %v", told)
				}
				if w.m.Hosts == nil {
					return
				}
				if err := w.m.Hosts.Add("a.example.com"); err != nil {
					t.Fatal(err)
				}
				w.mustGet("a.example.com")
			})
		})
	}
}
