package certmgr

import (
	"context"
	"crypto/tls"

	"github.com/nostall/nostall/internal/certfiles"
)

// OwnCertificate is one of the certificates of a CertificateSource, or the
// reason why it cannot be used at the moment.
type OwnCertificate struct {
	// Name tells the certificates of a source apart over time, and tells people
	// where each is from, such as the path of its file. If it is empty, the names
	// in the certificate and its key type do so.
	Name string

	// Certificate is the chain, leaf first, with its private key, a
	// crypto.Signer. It may have an OCSP staple and SCTs. Neither the source nor
	// the Manager changes it any more.
	Certificate *tls.Certificate

	// Err, if it is not nil, is why there is no Certificate: one with the same
	// Name that the source returned before stays in service until it expires.
	Err error
}

// CertificateSource returns all certificates of the operator's own, for
// Manager.Certificates. It is called in the background, at the first use of the
// Manager and then again CertificatesEvery after each answer. Its context ends
// after a minute, the first time after 5 seconds, and on Close. Several Managers
// may call it concurrently.
//
// A certificate that it no longer returns is taken out of service. If it returns
// an error, panics or takes too long, nothing changes. That is an event
// (audit.OwnCertificateRejected), and so is each certificate that cannot be
// used.
type CertificateSource func(ctx context.Context) ([]OwnCertificate, error)

// CertificateFiles returns a CertificateSource that reads PEM files and watches
// them. A path is that of a file or of a folder. In a folder, and in the folders
// within it, the files are read whose names end in .pem, .crt, .cer, .cert or
// .key and do not begin with a dot. Links are followed, so the folder of a
// mounted Kubernetes secret and certbot's folder "live" will do.
//
// Which private key belongs to which certificate is seen from the keys, so names
// do not matter: name.crt and name.key, fullchain.pem and privkey.pem, or both
// in one file, in any order. The key is sought in the folder of the certificate,
// or among all paths of files. Keys are PKCS #8, PKCS #1 or SEC 1, RSA, ECDSA or
// Ed25519, and not encrypted.
//
// Files that change are read once they have stayed the same for two calls. A
// certificate that was cut short, or does not fit its key, replaces none. A file
// in a folder that is removed takes its certificate out of service; a path that
// does not exist is an error, and changes nothing. At most 10,000 files are
// read, of at most 128 KiB each.
func CertificateFiles(paths ...string) CertificateSource {
	files := certfiles.New(paths...)
	return func(ctx context.Context) ([]OwnCertificate, error) {
		pairs, err := files.Look(ctx)
		if err != nil {
			return nil, err
		}
		list := make([]OwnCertificate, 0, len(pairs))
		for _, p := range pairs {
			c := OwnCertificate{Name: p.Path, Err: p.Err}
			if p.Err == nil {
				c.Certificate = &tls.Certificate{Certificate: p.Chain, PrivateKey: p.Key}
			}
			list = append(list, c)
		}
		return list, nil
	}
}
