package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/gob"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"
)

// entry is the certificate of one host, in PEM: a key in the form of SEC 1, and
// a leaf with its intermediate.
type entry struct {
	Host       string
	Key, Chain []byte
}

// hostNames returns the names that all subjects serve.
func hostNames(n int) []string {
	hosts := make([]string, n)
	for i := range hosts {
		hosts[i] = fmt.Sprintf("host-%05d.example.com", i)
	}
	return hosts
}

// writeMaterial makes certificates for hostNames(n) and writes them to a file,
// one value after the other, so that a process can read only those it needs.
func writeMaterial(path string, n int) error {
	ca, err := newIntermediate()
	if err != nil {
		return err
	}
	entries := make([]entry, n)
	var all errgroup.Group
	all.SetLimit(runtime.GOMAXPROCS(0))
	for i, host := range hostNames(n) {
		all.Go(func() (err error) {
			entries[i], err = ca.issue(host, int64(i)+1)
			return err
		})
	}
	if err := all.Wait(); err != nil {
		return err
	}
	var buf bytes.Buffer
	encoder := gob.NewEncoder(&buf)
	for _, e := range entries {
		if err := encoder.Encode(e); err != nil {
			return err
		}
	}
	return os.WriteFile(path, buf.Bytes(), 0o600)
}

// readMaterial reads the first n entries of a file.
func readMaterial(path string, n int) ([]entry, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	entries := make([]entry, n)
	decoder := gob.NewDecoder(f)
	for i := range entries {
		if err := decoder.Decode(&entries[i]); err != nil {
			return nil, fmt.Errorf("%s: entry %d: %w", path, i, err)
		}
	}
	return entries, nil
}

// intermediate is a CA below a root that is not needed here.
type intermediate struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newIntermediate() (*intermediate, error) {
	rootKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{Country: []string{"XX"}, Organization: []string{"Benchmark"}, CommonName: "Benchmark Root"},
		NotBefore:    now.AddDate(-1, 0, 0), NotAfter: now.AddDate(10, 0, 0),
		KeyUsage: x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: true, SubjectKeyId: []byte("root"),
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2),
		Subject:      pkix.Name{Country: []string{"XX"}, Organization: []string{"Benchmark"}, CommonName: "B1"},
		NotBefore:    now.AddDate(-1, 0, 0), NotAfter: now.AddDate(5, 0, 0),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, BasicConstraintsValid: true, IsCA: true, MaxPathLenZero: true,
		IssuingCertificateURL: []string{"http://root.ca.example/"}, CRLDistributionPoints: []string{"http://root.ca.example/crl"},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, root, key.Public(), rootKey)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &intermediate{cert, key, encodePEM("CERTIFICATE", der)}, nil
}

// issue makes a certificate like those of public CAs: valid for 90 days, with
// one name, URLs of the issuer and the CRL, and a policy.
func (ca *intermediate) issue(host string, serial int64) (entry, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return entry{}, err
	}
	now := time.Now()
	template := &x509.Certificate{
		// The length of the serial numbers of public CAs.
		SerialNumber: new(big.Int).Add(new(big.Int).Lsh(big.NewInt(3), 140), big.NewInt(serial)),
		Subject:      pkix.Name{CommonName: host}, DNSNames: []string{host},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(90 * 24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true, PolicyIdentifiers: []asn1.ObjectIdentifier{{2, 23, 140, 1, 2, 1}},
		IssuingCertificateURL: []string{"http://b1.ca.example/"}, CRLDistributionPoints: []string{"http://b1.ca.example/1.crl"},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, key.Public(), ca.key)
	if err != nil {
		return entry{}, err
	}
	sec1, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return entry{}, err
	}
	return entry{host, encodePEM("EC PRIVATE KEY", sec1), append(encodePEM("CERTIFICATE", der), ca.pem...)}, nil
}

func encodePEM(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}
