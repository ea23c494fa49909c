package main

import (
	"strings"
	"testing"
	"time"

	"github.com/nostall/nostall/examples/internal/columnstest"
)

// The lines of the logs are as long as they were in real runs.
func TestOutputFitsATerminal(t *testing.T) {
	began := time.Now()
	var sides []*side
	for name, line := range map[string]string{
		"autocert": "2026/11/27 22:35:53 http: TLS handshake error from 127.0.0.1:41234: acme/autocert: missing certificate",
		"certmgr": `2026/11/27 22:35:53 ERROR certmgr: issuance failed host=login.example.com key_type=ECDSA stage=challenge retry_at=2026-11-27T22:36:53Z ` +
			`error="authorization is invalid: tls-alpn-01 for login.example.com at 127.0.0.1:43933: remote error; next attempt 2026-11-27T22:36:53Z" ` +
			`ca=https://127.0.0.1:35905/directory/` + strings.Repeat("long/", 30),
	} {
		s := &side{
			name:    name,
			start:   began,
			ca:      newBrokenCA("mix"),
			samples: []sample{{InFlight: 3000, Goroutines: 123456, Descriptors: 123456}},
			log:     []logLine{{at: began.Add(1234 * time.Millisecond), text: line}},
			lines:   123456,
			waits:   []time.Duration{123456 * time.Microsecond},
			left:    123456,
		}
		defer s.close()
		s.ca.reached.Store(&began)
		sides = append(sides, s)
	}
	var out strings.Builder
	summary(&out, options{length: 12 * time.Minute}, sides)
	columnstest.Check(t, out.String())
	for _, want := range []string{"acme/autocert: missing certificate", "next attempt"} {
		if !strings.Contains(strings.Join(strings.Fields(out.String()), " "), want) {
			t.Errorf("%q is missing in\n%s", want, out.String())
		}
	}
}
