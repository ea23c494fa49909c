package preflight_test

import (
	"testing"

	"github.com/nostall/nostall/certmgr/preflight"
)

func TestModesHaveNames(t *testing.T) {
	for mode, want := range map[preflight.Mode]string{preflight.Off: "off", preflight.Report: "report", preflight.Enforce: "enforce"} {
		if got := mode.String(); got != want {
			t.Errorf("%d: %q, want %q", mode, got, want)
		}
	}
}
