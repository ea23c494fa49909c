package pemfiles_test

import (
	"context"
	"fmt"
	"os/exec"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/pemfiles"
)

// Postfix on the same machine gets each new certificate:
// smtpd_tls_chain_files = /etc/postfix/certs/mail.example.com.pem
func ExampleDir() {
	dir := &pemfiles.Dir{
		Path:  "/etc/postfix/certs",
		Mode:  0o640,
		Group: "postfix",
		Reload: func(ctx context.Context, _ string) error {
			out, err := exec.CommandContext(ctx, "postfix", "reload").CombinedOutput()
			if err != nil {
				return fmt.Errorf("postfix reload: %w: %s", err, out)
			}
			return nil
		},
	}
	m := &certmgr.Manager{
		Prompt: certmgr.AcceptTOS,
		Cache:  certmgr.DirCache("/var/lib/certs"),
		Hosts:  certmgr.MustAllowlist("mail.example.com"),
		Issued: dir.Issued,
	}
	defer m.Close()
}
