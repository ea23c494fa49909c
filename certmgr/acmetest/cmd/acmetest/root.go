package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// useRoot gives the CA its root: that of the files, if there is one, or a new
// one, which is written to the files.
func (o *options) useRoot(ca *acmetest.Server) error {
	if o.rootKey == "" {
		return os.WriteFile(o.root, ca.RootPEM(), 0o644)
	}
	switch _, err := os.Stat(o.rootKey); {
	case err == nil:
		root, err := tls.LoadX509KeyPair(o.root, o.rootKey)
		if err != nil {
			return fmt.Errorf("reading the root: %w (delete both files for a new root)", err)
		}
		ca.Root = &root
		return nil
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	root := acmetest.NewRoot()
	ca.Root = root
	der, err := x509.MarshalPKCS8PrivateKey(root.PrivateKey)
	if err != nil {
		return err
	}
	if err := os.WriteFile(o.root, ca.RootPEM(), 0o644); err != nil {
		return err
	}
	// The key is written last: files without it are replaced the next time.
	return os.WriteFile(o.rootKey, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
}
