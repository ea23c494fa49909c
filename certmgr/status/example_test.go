package status_test

import (
	"crypto/subtle"
	"errors"
	"log"
	"net/http"
	"os"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/status"
)

// The page is for operators, so it has its own port, on loopback only. Open it
// through ssh, for example: ssh -L 6060:localhost:6060 server, then
// http://localhost:6060/debug/certs/.
func ExampleHandler() {
	m := &certmgr.Manager{
		Prompt: certmgr.AcceptTOS,
		Cache:  certmgr.DirCache("/var/lib/certs"),
		Hosts:  certmgr.MustAllowlist("example.com", "www.example.com"),
	}
	defer m.Close()

	internal := http.NewServeMux() // never http.DefaultServeMux of the public server
	internal.Handle("/debug/certs/", status.Handler(m))
	go func() {
		log.Print(http.ListenAndServe("localhost:6060", internal))
	}()

	public := &http.Server{
		Addr:      ":443",
		TLSConfig: m.TLSConfig(),
		ErrorLog:  m.ErrorLog(nil),
		Handler:   http.NotFoundHandler(),
	}
	log.Print(public.ListenAndServeTLS("", ""))
}

// Operators log in with names and passwords of their own, and may read the page,
// retry and renew hosts, and reload the allowlist. A server that more people use
// takes the name from its sessions, or from a header that its proxy sets.
func ExampleAdmin() {
	hosts, err := certmgr.OpenAllowlist("/etc/myserver/hosts.txt")
	if err != nil {
		log.Fatal(err)
	}
	m := &certmgr.Manager{
		Prompt: certmgr.AcceptTOS,
		Cache:  certmgr.DirCache("/var/lib/certs"),
		Hosts:  hosts,
	}
	defer m.Close()

	passwords := map[string]string{"alice": os.Getenv("ALICE_PASSWORD")}
	who := func(r *http.Request) (string, error) {
		name, password, _ := r.BasicAuth()
		want := passwords[name]
		if want == "" || subtle.ConstantTimeCompare([]byte(password), []byte(want)) != 1 {
			return "", errors.New("wrong name or password") // for the audit trail
		}
		return name, nil
	}

	page := status.Handler(m, status.AdminAt("/debug/certs/admin"))
	internal := http.NewServeMux() // never http.DefaultServeMux of the public server
	internal.Handle("/debug/certs/admin", status.Admin(m, who))
	internal.HandleFunc("/debug/certs/", func(w http.ResponseWriter, r *http.Request) {
		if _, err := who(r); err != nil {
			w.Header().Set("WWW-Authenticate", `Basic realm="certificates"`)
			http.Error(w, "Log in first.", http.StatusUnauthorized)
			return
		}
		page.ServeHTTP(w, r)
	})
	go func() {
		log.Print(http.ListenAndServe("localhost:6060", internal))
	}()

	public := &http.Server{Addr: ":443", TLSConfig: m.TLSConfig(), Handler: http.NotFoundHandler()}
	log.Print(public.ListenAndServeTLS("", ""))
}
