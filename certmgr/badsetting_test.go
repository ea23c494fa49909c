package certmgr_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/audit"
)

// A setting that is invalid is a warning at the first use and an error of Start,
// which name it. All hosts are served.
func TestInvalidSettingIsToldAndCostsNothingElse(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.HostSettings = map[string]certmgr.HostSettings{"a..example.com": {}}
		if _, err := w.get("a.example.com"); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		warnings := w.events.of(audit.ConfigurationWarning)
		if len(warnings) != 1 || !strings.Contains(warnings[0].Reason, `Manager.HostSettings["a..example.com"]`) {
			t.Errorf("the warnings are %v", warnings)
		}
		if err := w.m.Start(t.Context()); !errors.Is(err, certmgr.ErrBadSetting) || !strings.Contains(err.Error(), "a..example.com") {
			t.Errorf("Start: %v", err)
		}
		time.Sleep(time.Minute) // Start has issued it: before, a visitor may be refused
		if _, err := w.get("b.example.com"); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if n := len(w.events.of(audit.ConfigurationWarning)); n != 1 {
			t.Errorf("%d warnings", n)
		}
	})
}
