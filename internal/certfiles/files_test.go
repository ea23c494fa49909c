package certfiles

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// material is a chain with its key in PEM.
type material struct{ key, leaf, chain string }

func newMaterial(t *testing.T, name string) material {
	t.Helper()
	root, key := newKey(t), newKey(t)
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "CA of " + name}, IsCA: true, BasicConstraintsValid: true, NotAfter: time.Now().Add(time.Hour)}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), DNSNames: []string{name}, NotAfter: time.Now().Add(time.Hour)}
	return material{key: keyBlock(t, key), leaf: certBlock(t, leaf, ca, key, root), chain: certBlock(t, ca, ca, root, root)}
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func certBlock(t *testing.T, c, parent *x509.Certificate, key crypto.Signer, by crypto.Signer) string {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), by)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func keyBlock(t *testing.T, key crypto.Signer) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// found describes what a look found: a path with the length of its chain, or
// with "bad".
func found(t *testing.T, pairs []Pair, dir string) (list []string) {
	t.Helper()
	for _, p := range pairs {
		rel, _ := filepath.Rel(dir, p.Path)
		switch {
		case p.Err != nil:
			if !strings.Contains(p.Err.Error(), p.Path) {
				t.Errorf("%v does not name %s", p.Err, p.Path)
			}
			list = append(list, rel+" bad")
		default:
			list = append(list, rel+strings.Repeat(" +", len(p.Chain)))
		}
	}
	slices.Sort(list)
	return list
}

// Whatever the files are called and however keys and certificates are spread
// over them, each certificate is found once, with its key and its chain.
func TestLayoutsOfFiles(t *testing.T) {
	a, b := newMaterial(t, "a.example"), newMaterial(t, "b.example")
	_, edKey, _ := ed25519.GenerateKey(rand.Reader)
	ed := certBlock(t, &x509.Certificate{SerialNumber: big.NewInt(3), DNSNames: []string{"e.example"}, NotAfter: time.Now()}, &x509.Certificate{SerialNumber: big.NewInt(3)}, edKey, edKey)
	for name, test := range map[string]struct {
		files map[string]string
		want  []string
	}{
		"name.crt and name.key":    {map[string]string{"a.crt": a.leaf + a.chain, "a.key": a.key, "b.crt": b.leaf, "b.key": b.key}, []string{"a.crt + +", "b.crt +"}},
		"names that do not match":  {map[string]string{"one.crt": a.leaf, "two.crt": b.leaf, "x.key": a.key, "y.key": b.key}, []string{"one.crt +", "two.crt +"}},
		"a Kubernetes secret":      {map[string]string{"tls.crt": a.leaf + a.chain, "tls.key": a.key, "ca.crt": a.chain}, []string{"tls.crt + +"}},
		"certbot":                  {map[string]string{"README": "text", "cert.pem": a.leaf, "chain.pem": a.chain, "fullchain.pem": a.leaf + a.chain, "privkey.pem": a.key}, []string{"fullchain.pem + +"}},
		"certbot's folder live":    {map[string]string{"README": "text", "a.example/fullchain.pem": a.leaf + a.chain, "a.example/privkey.pem": a.key, "b.example/fullchain.pem": b.leaf, "b.example/privkey.pem": b.key}, []string{"a.example/fullchain.pem + +", "b.example/fullchain.pem +"}},
		"one file, key first":      {map[string]string{"a.pem": a.key + a.leaf + a.chain}, []string{"a.pem + +"}},
		"one file, key last":       {map[string]string{"a.pem": a.chain + a.leaf + a.key}, []string{"a.pem + +"}},
		"text and parameters":      {map[string]string{"a.pem": "subject=a\n" + string(pem.EncodeToMemory(&pem.Block{Type: "EC PARAMETERS", Bytes: []byte{6, 1, 1}})) + a.key + "issuer=b\n" + a.leaf}, []string{"a.pem +"}},
		"Ed25519":                  {map[string]string{"e.pem": keyBlock(t, edKey) + ed}, []string{"e.pem +"}},
		"line ends of Windows":     {map[string]string{"a.pem": strings.ReplaceAll(a.key+a.leaf, "\n", "\r\n")}, []string{"a.pem +"}},
		"hidden":                   {map[string]string{".a.pem": a.key + a.leaf, "..data/b.pem": b.key + b.leaf}, nil},
		"deeper folders":           {map[string]string{"x/y/a.pem": a.key + a.leaf}, nil},
		"other files":              {map[string]string{"notes.txt": "text", "a.json": "{}"}, nil},
		"a key without a partner":  {map[string]string{"a.crt": a.leaf, "a.key": a.key, "b.key": b.key}, []string{"a.crt +", "b.key bad"}},
		"a certificate without":    {map[string]string{"a.crt": a.leaf}, []string{"a.crt bad"}},
		"another key":              {map[string]string{"a.crt": a.leaf, "a.key": b.key}, []string{"a.crt bad"}},
		"key in another folder":    {map[string]string{"x/a.crt": a.leaf, "y/a.key": a.key}, []string{"x/a.crt bad", "y/a.key bad"}},
		"cut short":                {map[string]string{"a.crt": a.leaf[:80], "a.key": a.key, "b.pem": b.key + b.leaf}, []string{"a.crt bad", "b.pem +"}},
		"a chain of another":       {map[string]string{"a.pem": a.key + a.leaf + b.chain}, []string{"a.pem bad"}},
		"too large":                {map[string]string{"a.pem": a.key + a.leaf + strings.Repeat("\n", 200<<10)}, []string{"a.pem bad"}},
		"damaged inside":           {map[string]string{"a.pem": a.key + string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("no")}))}, []string{"a.pem bad"}},
		"empty":                    {map[string]string{"a.pem": ""}, []string{"a.pem bad"}},
		"an encrypted private key": {map[string]string{"a.crt": a.leaf, "a.key": string(pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte("x")}))}, []string{"a.crt bad", "a.key bad"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, test.files)
			pairs, err := New(dir).Look(t.Context())
			if got := found(t, pairs, dir); err != nil || !slices.Equal(got, test.want) {
				t.Errorf("found %q, %v; want %q", got, err, test.want)
			}
		})
	}
}

// Paths of files are one group; one that does not exist spoils only itself.
func TestPathsOfFiles(t *testing.T) {
	a, dir := newMaterial(t, "a.example"), t.TempDir()
	write(t, dir, map[string]string{"x/cert": a.leaf, "y/key": a.key})
	pairs, err := New(filepath.Join(dir, "x", "cert"), filepath.Join(dir, "y", "key"), filepath.Join(dir, "z")).Look(t.Context())
	if got := found(t, pairs, dir); err != nil || !slices.Equal(got, []string{"x/cert +", "z bad"}) {
		t.Errorf("found %q, %v", got, err)
	}
	if _, err := New().Look(t.Context()); err == nil {
		t.Error("no path is no error")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := New(dir, filepath.Join(dir, "x", "cert")).Look(ctx); err == nil {
		t.Error("an ended context is no error")
	}
}

// A change counts when it has been the same for two looks, and a folder that is
// away is an error.
func TestChangesOfFiles(t *testing.T) {
	a, b, dir := newMaterial(t, "a.example"), newMaterial(t, "b.example"), t.TempDir()
	write(t, dir, map[string]string{"a.pem": a.key + a.leaf})
	synctest.Test(t, func(t *testing.T) {
		files := New(dir)
		look := func() []Pair {
			t.Helper()
			pairs, err := files.Look(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * time.Second)
			return pairs
		}
		first := look()
		for range 5 { // as long as it is being written
			write(t, dir, map[string]string{"a.pem": b.key + b.leaf[:len(b.leaf)/2]})
			write(t, dir, map[string]string{"a.pem": b.key + b.leaf[:len(b.leaf)/3]})
			os.Remove(filepath.Join(dir, "a.pem"))
			if got := look(); len(got) != 1 || got[0].Err != nil || !bytes.Equal(got[0].Chain[0], first[0].Chain[0]) {
				t.Fatalf("a file that is being written was read: %v", got)
			}
			write(t, dir, map[string]string{"a.pem": b.key})
			look()
		}
		write(t, dir, map[string]string{"a.pem": b.key + b.leaf})
		look()
		if got := look(); len(got) != 1 || got[0].Err != nil || bytes.Equal(got[0].Chain[0], first[0].Chain[0]) {
			t.Fatalf("a changed file was not read: %v", got)
		}
		os.Remove(filepath.Join(dir, "a.pem"))
		look()
		if got := look(); len(got) != 0 {
			t.Errorf("a removed file: %v", got)
		}
		os.RemoveAll(dir)
		if _, err := files.Look(t.Context()); err == nil {
			t.Error("a folder that is away is no error")
		}
	})
}

// Files in the same state are not read again.
func TestFilesThatRestAreNotRead(t *testing.T) {
	a, dir := newMaterial(t, "a.example"), t.TempDir()
	write(t, dir, map[string]string{"a.pem": a.key + a.leaf})
	synctest.Test(t, func(t *testing.T) {
		files := New(dir)
		var last []Pair
		for range 4 {
			pairs, err := files.Look(t.Context())
			if err != nil || len(pairs) != 1 {
				t.Fatal(pairs, err)
			}
			last = pairs
			time.Sleep(3 * time.Second)
		}
		pairs, _ := files.Look(t.Context())
		if pairs[0].Key != last[0].Key {
			t.Error("a file that rests was read again")
		}
	})
}
