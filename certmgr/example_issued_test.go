package certmgr_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"os/exec"

	"github.com/nostall/nostall/certmgr"
)

// A mail server on the same machine is told of each new certificate. If that
// fails, it is an event, and the Manager tries again later.
func ExampleRetryIssued() {
	m := &certmgr.Manager{
		Prompt: certmgr.AcceptTOS,
		Cache:  certmgr.DirCache("/var/lib/certs"),
		Hosts:  certmgr.MustAllowlist("mail.example.com"),
		Issued: certmgr.RetryIssued(func(ctx context.Context, cert *tls.Certificate) error {
			out, err := exec.CommandContext(ctx, "systemctl", "reload", "postfix").CombinedOutput()
			if err != nil {
				return fmt.Errorf("reloading postfix for %s: %w: %s", cert.Leaf.DNSNames, err, out)
			}
			return nil
		}),
	}
	defer m.Close()
}
