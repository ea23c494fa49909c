package certmgr

import (
	"bytes"
	"cmp"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/internal/bundle"
	"github.com/nostall/nostall/internal/order"
	"github.com/nostall/nostall/internal/pace"
)

// orderRecord is the JSON form of an unfinished order in the Cache, under the
// host's key and "+order". By it another process resumes the order, if this one
// ends before its certificate is in the Cache.
type orderRecord struct {
	Version   int       `json:"version"`
	Host      string    `json:"host"`
	KeyType   string    `json:"keyType"`
	Order     string    `json:"order"`
	Names     string    `json:"names,omitempty"` // of a group's order, separated by spaces
	Account   string    `json:"account"`
	Directory string    `json:"directory"`
	Created   time.Time `json:"created"`
	Expires   time.Time `json:"expires,omitzero"`
	Key       string    `json:"key,omitempty"`    // PKCS #8 in PEM, or the public key if it cannot be exported; empty until the certificate is about to be asked for
	KeptOf    string    `json:"keptOf,omitempty"` // serial number of the older certificate with this key

	Stalls   int       `json:"stalls,omitempty"`
	Accepted bool      `json:"accepted,omitempty"`
	Missing  time.Time `json:"missing,omitzero"`
	Unfit    time.Time `json:"unfit,omitzero"`
}

// orderVersion is the version of the form. A process that finds a later one
// leaves the entry alone.
const orderVersion = 1

// encodeOrder returns the entry for an order. keptOf is the certificate whose
// key the order has, or nil.
func encodeOrder(sub subject, u *order.Unfinished, keptOf *certificate) ([]byte, error) {
	rec := orderRecord{
		Version:   orderVersion,
		Host:      sub.host(),
		KeyType:   sub.alg.String(),
		Order:     u.URL,
		Names:     namesOf(sub, u),
		Account:   string(u.Account),
		Directory: u.Directory,
		Created:   u.Created.UTC(),
		Expires:   u.Expires.UTC(),
		Stalls:    u.Stalls,
		Accepted:  u.Accepted,
		Missing:   u.Missing.UTC(),
		Unfit:     u.Unfit.UTC(),
	}
	if u.Key != nil {
		key, err := encodeOrderKey(u.Key)
		if err != nil {
			return nil, err
		}
		rec.Key = key
	}
	if keptOf != nil {
		rec.KeptOf = serialOf(keptOf.leaf)
	}
	return json.Marshal(rec)
}

// encodeOrderKey returns a private key in PEM, or its public key if it cannot be
// exported.
func encodeOrderKey(key crypto.Signer) (string, error) {
	if !bundle.IsExportable(key) {
		var buf bytes.Buffer
		err := bundle.EncodeSigner(&buf, key)
		return buf.String(), err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), err
}

// namesOf returns the names of an order for its entry.
func namesOf(sub subject, u *order.Unfinished) string {
	if sub.group {
		return u.Names
	}
	return ""
}

// newerOrder is the error of an entry whose version this code does not know.
type newerOrder int

func (v newerOrder) Error() string {
	return fmt.Sprintf("it has version %d, and this program knows %d: a newer one wrote it, and it is left alone", int(v), orderVersion)
}

// decodeOrder returns the order of an entry, and what it was written with. No
// error says anything of what the entry holds.
func decodeOrder(sub subject, data []byte, now time.Time) (*order.Unfinished, *orderRecord, error) {
	if err := checkRecord(data, maxRecord); err != nil {
		return nil, nil, err
	}
	var form struct{ Version int }
	if json.Unmarshal(data, &form) == nil && form.Version > orderVersion {
		return nil, nil, newerOrder(form.Version)
	}
	rec := new(orderRecord)
	if json.Unmarshal(data, rec) != nil {
		return nil, nil, errors.New("entry cannot be parsed") // the parser's own error could quote the key
	}
	switch {
	case rec.Version != orderVersion:
		return nil, nil, errors.New("entry has no version")
	case rec.Host != sub.host() || rec.KeyType != sub.alg.String():
		return nil, nil, errors.New("entry is about another certificate")
	case rec.Created.IsZero():
		return nil, nil, errors.New("entry does not say when the order was placed")
	case !isOriginOf(rec.Order, rec.Account, rec.Directory):
		return nil, nil, errors.New("URL of the order is not one of the CA's")
	}
	key, err := decodeOrderKey(sub.alg, rec.Key)
	if err != nil {
		return nil, nil, err
	}
	past := func(t time.Time) time.Time { return pace.Earlier(t, now) } // the clock may have been ahead
	return &order.Unfinished{
		URL:       rec.Order,
		Account:   acme.KeyID(rec.Account),
		Directory: rec.Directory,
		Names:     rec.Names,
		Created:   past(rec.Created),
		Expires:   rec.Expires,
		Key:       key,
		Inherited: true,
		Stalls:    max(rec.Stalls, 0),
		Accepted:  rec.Accepted,
		Missing:   past(rec.Missing),
		Unfit:     past(rec.Unfit),
	}, rec, nil
}

// decodeOrderKey returns the private key of an entry, which may have none, or its
// public key.
func decodeOrderKey(alg bundle.Algorithm, encoded string) (crypto.Signer, error) {
	if encoded == "" {
		return nil, nil
	}
	key, rest, err := bundle.DecodeSigner([]byte(encoded))
	if err != nil {
		return nil, err
	}
	public := key.Public()
	if rsa, ok := public.(*rsa.PublicKey); ok && rsa.N.BitLen() < 2048 {
		return nil, fmt.Errorf("RSA key has %d bits", rsa.N.BitLen())
	}
	if bundle.AlgorithmOfKey(public) != alg || len(rest) > 0 {
		return nil, fmt.Errorf("private key is not that of a certificate with an %v key", alg)
	}
	return key, nil
}

// isOriginOf reports whether a URL leads to the server of the CA's account URLs
// or of its directory. Signed requests are sent to it, which must not go
// anywhere else because an entry was changed.
func isOriginOf(orderURL, account, directory string) bool {
	o, err := url.Parse(orderURL)
	if err != nil || o.Host == "" {
		return false
	}
	for _, of := range []string{account, directory} {
		if u, err := url.Parse(of); err == nil && u.Scheme == o.Scheme && u.Host == o.Host {
			return true
		}
	}
	return false
}

// isLeftover reports whether a certificate came of u, the record's order, and not
// an older one that had the key before.
func isLeftover(rec *orderRecord, u *order.Unfinished, cert *certificate) bool {
	return cert != nil && u.Key != nil && bundle.EqualKeys(cert.leaf.PublicKey, u.Key.Public()) && cmp.Or(rec.KeptOf, "-") != serialOf(cert.leaf)
}
