package prommetrics

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/cache"
)

// nowhere is a network without a CA.
type nowhere struct{}

func (nowhere) RoundTrip(*http.Request) (*http.Response, error) { return nil, errors.New("no network") }

// A label with client input would exhaust the memory of Prometheus.
func TestStrangersGrowNoSeries(t *testing.T) {
	tests := []struct {
		name      string
		m         *certmgr.Manager
		strangers int
	}{
		{"with a list", &certmgr.Manager{Hosts: certmgr.MustAllowlist("a.example.com")}, 100_000},
		{"with a wildcard", &certmgr.Manager{Hosts: certmgr.MustAllowlist("*.example.com")}, 5_000},
		{"with any host allowed", &certmgr.Manager{HostPolicy: certmgr.AllowAnyHost}, 5_000},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := tt.m
			m.Prompt, m.Cache, m.HandshakeWait = certmgr.AcceptTOS, new(cache.Memory), -1
			m.Client = &acme.Client{DirectoryURL: "https://ca.test/directory", HTTPClient: &http.Client{Transport: nowhere{}}}
			m.Audit = func(context.Context, audit.Event) {}
			defer m.Close()
			register := func(r prometheus.Registerer) { r.MustRegister(NewCollector(m)) }
			before := series(scrape(t, register))
			for i := range tt.strangers {
				for _, format := range []string{"host-%d.example.com", "%d.example.org", "%d", "\x00\xff%d\"}\n"} {
					hello := &tls.ClientHelloInfo{ServerName: fmt.Sprintf(format, i), SupportedProtos: []string{fmt.Sprintf("proto-%d", i)}}
					if i%4 == 0 {
						hello.SupportedProtos = []string{acme.ALPNProto}
					}
					if _, err := m.GetCertificate(hello); err == nil {
						t.Fatalf("a certificate for %q", hello.ServerName)
					}
				}
			}
			after := series(scrape(t, register))
			after = slices.DeleteFunc(after, func(s string) bool { return strings.HasPrefix(s, "certmgr_ca_retry_timestamp_seconds") })
			if !slices.Equal(before, after) {
				t.Errorf("%d series before, %d after %d strangers:\n%s", len(before), len(after), tt.strangers, strings.Join(after, "\n"))
			}
		})
	}
}
