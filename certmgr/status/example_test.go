package status_test

import (
	"log"
	"net/http"

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
