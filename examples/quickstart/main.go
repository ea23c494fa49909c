// Quickstart shows in a few seconds what certmgr does for a server. It issues
// for the first client, serves from memory, restarts from the cache, and
// refuses at once, with the reason, hosts that cannot be served.
//
//	go run ./examples/quickstart
//
// Everything is on loopback: a fake CA (certmgr/acmetest) that really
// validates, an HTTPS server on a free port, and TLS clients that verify
// certificates. A client sees only an alert without a reason, so the printed
// errors are the server's: those of GetCertificate. net/http would write them to
// its log for each visitor; Manager.ErrorLog leaves that to the audit trail. The
// program ends by itself, with status 1 if anything is not as described.
package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/examples/internal/columns"
)

const (
	goodHost   = "www.example.com"
	movedHost  = "login.example.com" // on the allowlist, but its name leads nowhere
	deniedHost = "other.example.net"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		os.Exit(1)
	}
}

func run() error {
	ca := acmetest.NewServer()
	defer ca.Close()
	dir, err := os.MkdirTemp("", "quickstart-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	d := &demo{ca: ca, cache: certmgr.DirCache(dir)}
	defer func() { _ = d.stopServer() }()
	if err := d.startServer(); err != nil {
		return err
	}
	fmt.Printf("Fake CA: %s\nServer:  https://%s, allowed: %s, %s\n\n", ca.URL, d.site.addr, goodHost, movedHost)
	fmt.Printf(row, "", "visit", "GetCert.", "requests")
	fmt.Printf(row, "", "", "", "to the CA")
	for _, step := range []func() error{d.issue, d.serve, d.restart, d.deny, d.fail} {
		if err := step(); err != nil {
			return fmt.Errorf("%w\n\nWhat the CA was asked:\n%v", err, ca)
		}
	}
	fmt.Println("\nEverything was as it should be.")
	return nil
}

// row is the form of a line about a visit.
const row = "%-49s %10v %9v %9v\n"

// show prints a line for a visit.
func show(title string, v visit) {
	fmt.Printf(row, title, round(v.took), round(v.getCertificate), v.requests)
}

// explain prints text below a line, indented and wrapped.
func explain(label, text string) {
	const indent = 12
	fmt.Printf("  %-*s%s\n", indent-2, label, columns.Wrap(text, strings.Repeat(" ", indent), indent))
}

// round rounds to three digits.
func round(d time.Duration) string {
	unit := time.Nanosecond
	for d >= 1000*unit {
		unit *= 10
	}
	return d.Round(unit).String()
}
