package pemfiles

import (
	"context"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/nostall/nostall/certmgr"
)

// Dir writes certificates to files in a directory. Set its fields before the
// first call and do not change or copy it afterwards. It is safe for concurrent
// use. Several processes may write to the same directory.
type Dir struct {
	// Path is the directory. It must exist, since its rights decide who can read
	// the files: for example mode 0750, with the group of the server that reads.
	// Not everybody may be able to write to it.
	Path string
	// Mode is the mode of the files. Zero means 0600. Others than owner and
	// group must have no rights, since the files hold private keys. On Windows
	// it has no effect: a file has the rights that its directory hands down.
	Mode fs.FileMode
	// Owner and Group are names or numbers. Empty means those of the process.
	// To set the owner, a process must be root or have CAP_CHOWN; the group may
	// be one of its own. On Windows they must be empty.
	Owner, Group string
	// Name returns the name of a certificate's file without ".pem". Nil means
	// the first DNS name or address, as described for the package. It must return different
	// names for different certificates of different hosts, of lower-case
	// letters, digits, dots, hyphens, underscores and plus signs.
	Name func(leaf *x509.Certificate) string
	// Reload is called after a file was changed, and once at the first call in a
	// process, in case that the last one was killed before it could. It may
	// run a command that has the server read its files again; host is that of
	// one changed file. Calls do not overlap. One that begins after a file was
	// written counts for it too, so if many files change, there are fewer calls.
	// One that fails is made again when Issued is. Nil means nothing to do.
	Reload func(ctx context.Context, host string) error

	once    sync.Once
	turn    chan struct{} // capacity 1; who calls Reload fills it
	cleaned sync.Once

	mu       sync.Mutex
	changes  uint64 // files changed, and 1 for what another process may have changed
	reloaded uint64 // changes at the beginning of the last call of Reload that succeeded
}

// Issued writes a certificate. It is meant for Manager.Issued, which reports an
// error as an event (audit.DeliveryFailed) and calls again later.
func (d *Dir) Issued(ctx context.Context, cert *tls.Certificate) {
	certmgr.RetryIssued(d.Write)(ctx, cert)
}

// Write writes a certificate, unless its file has this content already, and
// calls Reload if that is due. The error names the file and says what to do.
func (d *Dir) Write(ctx context.Context, cert *tls.Certificate) error {
	d.once.Do(func() {
		d.turn = make(chan struct{}, 1)
		d.changes = 1
	})
	leaf, err := leafOf(cert)
	if err != nil {
		return err
	}
	names := namesOf(leaf)
	host := strings.Join(names, ", ")
	name, err := d.fileName(leaf)
	if err != nil {
		return fmt.Errorf("pemfiles: %q: %w", host, err)
	}
	data, err := encode(cert)
	if err != nil {
		return fmt.Errorf("pemfiles: %q: %w", host, err)
	}
	changed, err := d.write(ctx, name, data)
	if changed { // also if it was not flushed: the next call finds it unchanged
		d.mu.Lock()
		d.changes++
		d.mu.Unlock()
	}
	if err != nil {
		return fmt.Errorf("pemfiles: %q: writing %s: %w%s", host, filepath.Join(d.Path, name), err, d.hint(err))
	}
	if d.Reload == nil {
		return nil
	}
	if err := d.reload(ctx, names); err != nil {
		return fmt.Errorf("pemfiles: %q: %s is written, but Reload failed: %w", host, filepath.Join(d.Path, name), err)
	}
	return nil
}

// hint says what to do about an error of the file system.
func (d *Dir) hint(err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Sprintf("; create the directory %s, with a mode and an owner that let the server read its files", d.Path)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Sprintf("; let this process write to %s, and set Owner and Group to what it may give away", d.Path)
	}
	return ""
}

// leafOf returns the parsed certificate.
func leafOf(cert *tls.Certificate) (*x509.Certificate, error) {
	if cert == nil || len(cert.Certificate) == 0 {
		return nil, errors.New("pemfiles: there is no certificate")
	}
	if cert.Leaf != nil {
		return cert.Leaf, nil
	}
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		return nil, fmt.Errorf("pemfiles: the certificate cannot be parsed: %w", err)
	}
	return leaf, nil
}

// namesOf returns the names of a certificate: DNS names, then addresses.
func namesOf(leaf *x509.Certificate) []string {
	names := slices.Clone(leaf.DNSNames)
	for _, ip := range leaf.IPAddresses {
		names = append(names, ip.String())
	}
	return names
}

// maxName is the longest name, so that common file systems take the file's.
const maxName = 251

// fileName returns the name of a certificate's file, which is that of a plain
// file in the directory, whatever the certificate says.
func (d *Dir) fileName(leaf *x509.Certificate) (string, error) {
	var name string
	switch {
	case d.Name != nil:
		name = d.Name(leaf)
	case len(namesOf(leaf)) == 0:
		return "", errors.New("the certificate has neither a DNS name nor an IP address; set Dir.Name")
	default:
		// Windows has no colons in names of files.
		name = strings.ReplaceAll(strings.ToLower(namesOf(leaf)[0]), ":", "_")
		if rest, ok := strings.CutPrefix(name, "*."); ok {
			name = "_." + rest
		}
		if _, ok := leaf.PublicKey.(*rsa.PublicKey); ok {
			name += "+rsa"
		}
	}
	odd := func(r rune) bool { return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyz0123456789.-_+", r) }
	if name == "" || len(name) > maxName || name[0] == '.' || name[0] == '-' || strings.ContainsFunc(name, odd) || !filepath.IsLocal(name+".pem") {
		return "", fmt.Errorf("%q cannot be the name of its file; set Dir.Name", name)
	}
	return name + ".pem", nil
}

// reload calls Reload unless a call that began after the last change has
// succeeded.
func (d *Dir) reload(ctx context.Context, names []string) error {
	d.mu.Lock()
	want := d.changes
	d.mu.Unlock()
	select {
	case d.turn <- struct{}{}:
		defer func() { <-d.turn }()
	case <-ctx.Done():
		return fmt.Errorf("another call has not returned: %w", context.Cause(ctx))
	}
	d.mu.Lock()
	done, covers := d.reloaded >= want, d.changes
	d.mu.Unlock()
	if done {
		return nil
	}
	host := ""
	if len(names) > 0 {
		host = names[0]
	}
	if err := d.Reload(ctx, host); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.reloaded = covers
	return nil
}
