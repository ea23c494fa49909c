package challenge_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/nostall/nostall/internal/challenge"
)

func TestPickPrefersWhatWorked(t *testing.T) {
	both, alpn, http := []string{challenge.TLSALPN01, challenge.HTTP01}, []string{challenge.TLSALPN01}, []string{challenge.HTTP01}
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
		{challenge.TLSALPN01, both, 0, alpn},
		{challenge.TLSALPN01, both, 1, http},
		{challenge.HTTP01, both, 0, http},
		{challenge.HTTP01, both, 1, alpn},
		{challenge.HTTP01, both, 2, http},
		{challenge.HTTP01, alpn, 0, alpn}, // it worked when it was usable
	} {
		t.Run(fmt.Sprintf("%s worked, %d usable, %d failures", tt.worked, len(tt.usable), tt.failures), func(t *testing.T) {
			var m challenge.Memory
			m.Note("a.example.com", tt.worked)
			m.Note("b.example.com", challenge.HTTP01)
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
	var m challenge.Memory
	m.Note("a.example.com", challenge.HTTP01)
	m.Note("a.example.com", "")
	if got := m.Pick("a.example.com", []string{challenge.TLSALPN01, challenge.HTTP01}, 0); !slices.Equal(got, []string{challenge.HTTP01}) {
		t.Errorf("%q", got)
	}
}
