package certmgr_test

import (
	"os"
	"path/filepath"
	"time"

	"github.com/nostall/nostall/certmgr"
)

// situationsOfOwn are those of certificates of the operator's own. They have
// a.example.com.
func situationsOfOwn() []situation {
	var ca *officeCA
	var dir string
	begin := func(w *world) {
		ca, dir = newOfficeCA(w.t), w.t.TempDir()
		putPair(w.t, dir, "a", ca.sign(w.t, signed{names: []string{visited}, life: 20 * day}))
		w.m.Certificates, w.m.CertificatesEvery = certmgr.CertificateFiles(dir), time.Minute
		w.mustGet(visited)
	}
	replace := func(w *world) error {
		putPair(w.t, dir, "a", ca.sign(w.t, signed{names: []string{visited}}))
		time.Sleep(10 * time.Minute)
		return nil
	}
	return []situation{
		{
			entry: "ErrOwnCertificate", is: certmgr.ErrOwnCertificate,
			provoke: func(w *world) error { begin(w); return renew(w) },
			fix: func(w *world) error {
				err := os.Remove(filepath.Join(dir, "a.crt"))
				time.Sleep(10 * time.Minute)
				if n := len(w.ca.IssuedFor(visited)); n != 1 {
					w.t.Errorf("%d certificates were issued after the file was taken away", n)
				}
				return err
			},
		},
		{
			entry: "own_certificate_rejected",
			provoke: func(w *world) error {
				begin(w)
				rewrite(w.t, filepath.Join(dir, "a.key"), keyPEM(w.t, ca.sign(w.t, signed{})))
				time.Sleep(10 * time.Minute)
				return visitHost(w)
			},
			fix: replace,
		},
		{
			entry:   "own_certificate_expiring",
			provoke: func(w *world) error { begin(w); time.Sleep(18 * day); return visitHost(w) },
			fix:     replace,
		},
	}
}
