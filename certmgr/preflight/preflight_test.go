package preflight

import "testing"

func TestModesHaveNames(t *testing.T) {
	for mode, want := range map[Mode]string{Off: "off", Report: "report", Enforce: "enforce"} {
		if got := mode.String(); got != want {
			t.Errorf("%d: %q, want %q", mode, got, want)
		}
	}
}
