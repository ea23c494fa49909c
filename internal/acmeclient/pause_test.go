package acmeclient

import (
	"strings"
	"testing"

	"golang.org/x/crypto/acme"
)

func TestPausedNamesAreKnownByTheirText(t *testing.T) {
	link := "https://portal.ca.example/sfe/v1/unpause?jwt=" + strings.Repeat("a.b_c-", 130)
	for _, tt := range []struct {
		detail, link string
		paused       bool
	}{
		{"Your account is temporarily prevented from requesting certificates for a.example.com and possibly others. Please visit: " + link, link, true},
		{"Issuance is paused, see <" + link + ">.", link, true},
		{"see " + link, link, true},
		{"only a human can end this: Unpause", "", true},
		{"see https://ca.example/" + strings.Repeat("unpause", 500) + " to unpause", "", true},
		{"too many failed authorizations (5) for \"unpause.example.com\" in the last 1h0m0s: see https://ca.example/docs/rate-limits/", "", false},
		{"too many certificates (50) already issued for \"paused.com\"", "", false},
		{"", "", false},
	} {
		p := &acme.Error{StatusCode: 429, ProblemType: "urn:ietf:params:acme:error:rateLimited", Detail: tt.detail}
		if got := IsPause(p); got != tt.paused {
			t.Errorf("IsPause(%.60q) = %v", tt.detail, got)
		}
		if got := PauseLink(p); tt.paused && got != tt.link {
			t.Errorf("PauseLink(%.60q) = %q", tt.detail, got)
		}
	}
	if IsPause(&acme.Error{StatusCode: 503, Detail: "the service is paused"}) {
		t.Error("a CA that is paused has not paused a name")
	}
}
