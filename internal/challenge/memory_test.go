package challenge

import (
	"fmt"
	"slices"
	"testing"
)

func TestPick(t *testing.T) {
	both, alpn, http := []string{TLSALPN01, HTTP01}, []string{TLSALPN01}, []string{HTTP01}
	for _, tt := range []struct {
		worked   string
		usable   []string
		failures int
		want     []string
	}{
		{"", both, 0, both},
		{"", alpn, 0, alpn},
		{"", both, 1, http},
		{"", both, 2, alpn},
		{"", alpn, 1, alpn},
		{TLSALPN01, both, 0, alpn},
		{TLSALPN01, both, 1, http},
		{HTTP01, both, 0, http},
		{HTTP01, both, 1, alpn},
		{HTTP01, both, 2, http},
		{HTTP01, alpn, 0, alpn}, // it worked when it was usable
	} {
		t.Run(fmt.Sprintf("%s worked, %d usable, %d failures", tt.worked, len(tt.usable), tt.failures), func(t *testing.T) {
			var m Memory
			m.Note("a.example.com", tt.worked)
			m.Note("b.example.com", HTTP01)
			usable := slices.Clone(tt.usable)
			if got := m.Pick("a.example.com", usable, tt.failures); !slices.Equal(got, tt.want) {
				t.Errorf("%q, want %q", got, tt.want)
			}
			if !slices.Equal(usable, tt.usable) {
				t.Error("the caller's list was changed")
			}
		})
	}
}

// A reused authorization says nothing about challenge types.
func TestReusedAuthorizationIsNotNoted(t *testing.T) {
	var m Memory
	m.Note("a.example.com", HTTP01)
	m.Note("a.example.com", "")
	if got := m.Pick("a.example.com", []string{TLSALPN01, HTTP01}, 0); !slices.Equal(got, []string{HTTP01}) {
		t.Errorf("%q", got)
	}
}
