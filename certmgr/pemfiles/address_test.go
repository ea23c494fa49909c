package pemfiles_test

import (
	"context"
	"net"
	"testing"

	"github.com/nostall/nostall/certmgr/pemfiles"
)

// The file of an address has no colons in its name, and Reload gets the address.
func TestNamesOfAddresses(t *testing.T) {
	for addr, want := range map[string]string{"192.0.2.1": "192.0.2.1.pem", "2001:db8::1": "2001_db8__1.pem", "::1": "__1.pem"} {
		path, reloaded := newDir(t), ""
		cert := newCert(t)
		leaf := *cert.Leaf
		leaf.IPAddresses = []net.IP{net.ParseIP(addr)}
		cert.Leaf = &leaf
		d := &pemfiles.Dir{Path: path, Reload: func(_ context.Context, host string) error { reloaded = host; return nil }}
		if err := d.Write(t.Context(), cert); err != nil || files(t, path)[0] != want || reloaded != addr {
			t.Errorf("%s: %q, %v, reloaded %q", addr, files(t, path), err, reloaded)
		}
	}
}
