package prommetrics_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/prommetrics"
)

func ExampleNewCollector() {
	manager := &certmgr.Manager{
		Prompt: certmgr.AcceptTOS,
		Hosts:  certmgr.MustAllowlist("www.example.com"),
	}
	defer manager.Close()

	registry := prometheus.NewRegistry()
	registry.MustRegister(prommetrics.NewCollector(manager))
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))

	// A scanner connects, and then Prometheus scrapes.
	manager.GetCertificate(&tls.ClientHelloInfo{ServerName: "scanner.example.org"})
	page := httptest.NewRecorder()
	mux.ServeHTTP(page, httptest.NewRequest("GET", "/metrics", nil))
	for lines := bufio.NewScanner(page.Body); lines.Scan(); {
		if line := lines.Text(); strings.HasPrefix(line, "certmgr_handshakes_total") && !strings.HasSuffix(line, " 0") {
			fmt.Println(line)
		}
	}
	// Output: certmgr_handshakes_total{result="host_not_allowed"} 1
}

// A label distinguishes several Managers in one process.
func ExampleNewCollector_several() {
	managers := map[string]*certmgr.Manager{
		"shop":  {Prompt: certmgr.AcceptTOS, Hosts: certmgr.MustAllowlist("shop.example.com")},
		"admin": {Prompt: certmgr.AcceptTOS, Hosts: certmgr.MustAllowlist("admin.example.com")},
	}
	registry := prometheus.NewRegistry()
	for name, m := range managers {
		defer m.Close()
		labels := prometheus.Labels{"manager": name}
		prometheus.WrapRegistererWith(labels, registry).MustRegister(prommetrics.NewCollector(m))
	}
	families, err := registry.Gather()
	if err != nil {
		fmt.Println(err)
	}
	for _, family := range families {
		if family.GetName() == "certmgr_handshakes_waiting" {
			for _, metric := range family.Metric {
				fmt.Println(family.GetName(), metric.Label[0].GetValue(), metric.Gauge.GetValue())
			}
		}
	}
	// Output:
	// certmgr_handshakes_waiting admin 0
	// certmgr_handshakes_waiting shop 0
}
