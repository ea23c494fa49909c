package preflight

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// The text is bounded, and what to do is not what is cut off.
func TestErrorIsBounded(t *testing.T) {
	e := &Error{Host: strings.Repeat("a.", 120) + "example.com", ClockSkew: time.Hour}
	for i := range 64 {
		addr := netip.MustParseAddr(fmt.Sprintf("2001:db8:ffff:ffff:ffff:ffff:ffff:%x", 0xf000+i))
		e.Addrs = append(e.Addrs, addr)
		e.Findings = append(e.Findings, Finding{Addr: netip.AddrPortFrom(addr, 443), Challenge: "tls-alpn-01", Answer: strings.Repeat("x", i)})
	}
	text := e.Error()
	if len(text) > maxText || !strings.HasSuffix(text, "point the name here, or take it off the list; the local clock is 1h0m0s behind the CA's") {
		t.Errorf("%d bytes: %s", len(text), text)
	}
}
