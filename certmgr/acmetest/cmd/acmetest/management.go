package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// change is the body of a request that changes records. Each path uses some of
// its members.
type change struct {
	Host, Value, Target string
	IP                  string
	Addresses           []string
}

// maxChange is the largest body of such a request.
const maxChange = 1 << 16

// manage returns the handler for the management of the CA.
func (o *options) manage(ca *acmetest.Server) http.Handler {
	mux := http.NewServeMux()
	for path, do := range map[string]func(change){
		"/set-txt":          func(c change) { ca.AddTXT(c.Host, c.Value) },
		"/clear-txt":        func(c change) { clearTXT(ca, c.Host) },
		"/set-cname":        func(c change) { ca.SetCNAME(c.Host, c.Target) },
		"/clear-cname":      func(c change) { ca.SetCNAME(c.Host, "") },
		"/add-a":            func(c change) { o.address(ca, c.Host, c.Addresses...) },
		"/add-aaaa":         func(c change) { o.address(ca, c.Host, c.Addresses...) },
		"/clear-a":          func(c change) { ca.Unresolve(c.Host) },
		"/clear-aaaa":       func(c change) { ca.Unresolve(c.Host) },
		"/set-default-ipv4": func(c change) { o.address(ca, "*", c.IP) },
	} {
		mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) {
			var c change
			err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxChange)).Decode(&c)
			if err == nil {
				err = try(func() { do(c) })
			}
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
			}
		})
	}
	mux.HandleFunc("GET /roots/0", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/pem-certificate-chain")
		_, _ = w.Write(ca.RootPEM())
	})
	mux.HandleFunc("GET /log", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, ca) })
	mux.HandleFunc("POST /stop", func(http.ResponseWriter, *http.Request) { ca.Stop() })
	mux.HandleFunc("POST /restart", func(w http.ResponseWriter, _ *http.Request) {
		if err := try(ca.Restart); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	return mux
}

// address makes a name lead to the first of these addresses.
func (o *options) address(ca *acmetest.Server, name string, addresses ...string) {
	if len(addresses) == 0 {
		panic("there is no address")
	}
	addr, err := netip.ParseAddr(addresses[0])
	if err != nil {
		panic(err)
	}
	o.resolve(ca, name, addr)
}

func clearTXT(ca *acmetest.Server, name string) {
	for _, value := range ca.TXT(name) {
		ca.RemoveTXT(name, value)
	}
}
