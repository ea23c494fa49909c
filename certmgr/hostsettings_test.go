package certmgr

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestSettingsOfHost(t *testing.T) {
	s := newHostSettings(map[string]HostSettings{
		"A.Example.com.":    {Profile: "exact"},
		"*.example.com":     {Profile: "wildcard"},
		"empty.example.com": {},
		"bücher.example":    {Profile: "idna"},
		"::FFFF:192.0.2.1":  {Profile: "v4"},
		"2001:DB8:0::1":     {Profile: "v6"},
	})
	if s.err != nil {
		t.Fatal(s.err)
	}
	for _, tt := range []struct{ host, profile, key string }{
		{"a.example.com", "exact", "a.example.com"},
		{"b.example.com", "wildcard", ".example.com"},
		{"empty.example.com", "", "empty.example.com"}, // and nothing of the wildcard
		{"b.a.example.com", "", ""},                    // a wildcard is for one label
		{"example.com", "", ""},
		{"xn--bcher-kva.example", "idna", "xn--bcher-kva.example"},
		{"192.0.2.1", "v4", "192.0.2.1"},
		{"2001:db8::1", "v6", "2001:db8::1"},
		{"192.0.2.2", "", ""},
		{"", "", ""},
	} {
		set, key := s.of(tt.host)
		if set.Profile != tt.profile || key != tt.key {
			t.Errorf("%s: %q of %q, want %q of %q", tt.host, set.Profile, key, tt.profile, tt.key)
		}
		if n := testing.AllocsPerRun(10, func() { s.of(tt.host) }); n != 0 {
			t.Errorf("%s: %v allocations", tt.host, n)
		}
	}
}

// A key that is no host name is named with the reason. The other keys count.
func TestKeysOfHostSettingsThatAreInvalid(t *testing.T) {
	for name, why := range map[string]string{
		"":                    "no name",
		"localhost":           "single label",
		"https://example.com": "leave out scheme",
		"a.*.example.com":     "wildcard",
		"*":                   "wildcard",
		"fe80::1%eth0":        "zone",
		"a.EXAMPLE.com.":      "another key is a.example.com too",
		"a\nb.example.com":    "not a",
	} {
		t.Run(name, func(t *testing.T) {
			s := newHostSettings(map[string]HostSettings{"A.example.com": {Profile: "good"}, name: {Profile: "bad"}})
			if !errors.Is(s.err, ErrBadSetting) {
				t.Fatalf("the error is %v", s.err)
			}
			if says := s.err.Error(); !strings.Contains(says, "Manager.HostSettings[") || !strings.Contains(says, why) || strings.Contains(says, "\n") {
				t.Errorf("the error is %q; want one line that has %q", says, why)
			}
			if set, _ := s.of("a.example.com"); set.Profile != "good" {
				t.Errorf("the settings of the other key are %+v", set)
			}
		})
	}
}

func TestErrorOfManyInvalidKeysIsBounded(t *testing.T) {
	byName := make(map[string]HostSettings)
	for i := range 1000 {
		byName[fmt.Sprintf("host%d", i)] = HostSettings{}
	}
	if s := newHostSettings(byName); len(s.err.Error()) > 1024 {
		t.Errorf("it has %d bytes", len(s.err.Error()))
	}
}

func TestHostSettingsAreCopied(t *testing.T) {
	byName := map[string]HostSettings{"a.example.com": {Profile: "one"}}
	s := newHostSettings(byName)
	byName["a.example.com"] = HostSettings{Profile: "two"}
	if set, _ := s.of("a.example.com"); set.Profile != "one" {
		t.Errorf("the profile is %q", set.Profile)
	}
}
