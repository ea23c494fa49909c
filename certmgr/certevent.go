package certmgr

import (
	"crypto/x509"
	"encoding/hex"

	"github.com/nostall/nostall/certmgr/audit"
)

// certEvent returns an event about a certificate.
func certEvent(kind audit.Kind, c *certificate) audit.Event {
	return audit.Event{
		Kind:     kind,
		Host:     c.subject.host(),
		KeyType:  c.subject.keyType.String(),
		CA:       c.subject.ca,
		Serial:   serialOf(c.leaf),
		NotAfter: c.notAfter,
	}
}

// serialOf returns a certificate's serial number in hexadecimal, as tools print
// it.
func serialOf(leaf *x509.Certificate) string {
	if leaf.SerialNumber == nil {
		return ""
	}
	return hex.EncodeToString(leaf.SerialNumber.Bytes())
}
