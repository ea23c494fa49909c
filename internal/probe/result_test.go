package probe

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/nostall/nostall/certmgr/preflight"
	"github.com/nostall/nostall/internal/challenge"
)

// concluded returns the result for outcomes: by address, tls-alpn-01 first.
func concluded(outcomes ...[2]outcome) Result {
	e := &preflight.Error{Host: "a.example.com"}
	var findings []finding
	for i, of := range outcomes {
		addr := netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})
		e.Addrs = append(e.Addrs, addr)
		findings = append(findings, newProbe(challenge.TLSALPN01).finding(addr, reply{outcome: of[0]}))
		findings = append(findings, newProbe(challenge.HTTP01).finding(addr, reply{outcome: of[1]}))
	}
	return conclude(e, findings)
}

func TestVerdict(t *testing.T) {
	for _, tt := range []struct {
		found []([2]outcome)
		want  Verdict
	}{
		{[][2]outcome{{right, right}}, Here},
		{[][2]outcome{{noRoute, noRoute}, {right, right}}, Here},
		{[][2]outcome{{right, wrong}}, InPart},
		{[][2]outcome{{right, right}, {wrong, wrong}}, InPart},
		{[][2]outcome{{unknown, right}}, InPart},
		{[][2]outcome{{wrong, wrong}}, Elsewhere},
		{[][2]outcome{{noRoute, noRoute}, {wrong, wrong}}, Elsewhere},
		{[][2]outcome{{noRoute, noRoute}}, Undecided},
		{[][2]outcome{{wrong, unknown}}, Undecided},
		{[][2]outcome{{wrong, wrong}, {unknown, wrong}}, Undecided},
	} {
		t.Run(fmt.Sprint(tt.found), func(t *testing.T) {
			r := concluded(tt.found...)
			if r.Verdict != tt.want {
				t.Errorf("got %d, want %d", r.Verdict, tt.want)
			}
			if is := errors.Is(r.Err, preflight.ErrUnreachable); is != (tt.want == Elsewhere) {
				t.Errorf("ErrUnreachable: %v", is)
			}
			e, _ := errors.AsType[*preflight.Error](r.Err)
			if e.Reachable != (tt.want == Here || tt.want == InPart) || e.Undecided != (tt.want == Undecided) {
				t.Errorf("%+v", e)
			}
		})
	}
}

func TestTypesThatWorkComeFirst(t *testing.T) {
	const alpn, http = challenge.TLSALPN01, challenge.HTTP01
	for _, tt := range []struct {
		name           string
		found          [2]outcome // of tls-alpn-01 and http-01
		due            []string
		types, mayWork []string
	}{
		{"both work", [2]outcome{right, right}, []string{http, alpn}, []string{http, alpn}, []string{http, alpn}},
		{"none works", [2]outcome{wrong, wrong}, []string{http}, []string{http}, []string{http}},
		{"the second works", [2]outcome{wrong, right}, []string{alpn, http}, []string{http, alpn}, []string{http}},
		{"the second works and the first may", [2]outcome{unknown, right}, []string{alpn, http}, []string{http, alpn}, []string{http, alpn}},
		{"one works that is not due", [2]outcome{right, wrong}, []string{http}, []string{alpn, http}, []string{alpn}},
		{"one works that is not due, and the other may", [2]outcome{right, unknown}, []string{http}, []string{alpn, http}, []string{alpn, http}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := concluded(tt.found)
			if got := r.Types(tt.due); !slices.Equal(got, tt.types) {
				t.Errorf("Types: %q, want %q", got, tt.types)
			}
			if got := r.TypesThatMayWork(tt.due); !slices.Equal(got, tt.mayWork) {
				t.Errorf("TypesThatMayWork: %q, want %q", got, tt.mayWork)
			}
		})
	}
}
