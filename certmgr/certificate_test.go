package certmgr

import (
	"crypto/x509"
	"math/big"
	"testing"
	"time"
)

func TestSerialAsToolsPrintIt(t *testing.T) {
	for n, want := range map[int64]string{255: "ff", 256: "0100", 0x7fff: "7fff"} {
		if got := serialOf(&x509.Certificate{SerialNumber: big.NewInt(n)}); got != want {
			t.Errorf("serial %d is %q, want %q", n, got, want)
		}
	}
}

// A certificate is valid through its notAfter (RFC 5280, section 4.1.2.5), as
// package x509 sees it, and not for a moment longer.
func TestCertificateIsServedToItsEnd(t *testing.T) {
	end := time.Date(2026, 11, 20, 14, 32, 7, 0, time.UTC)
	c := newCertificate(subject{}, nil, nil, &x509.Certificate{NotAfter: end})
	for after, want := range map[time.Duration]bool{
		-time.Hour: true, -time.Nanosecond: true, 0: true, time.Nanosecond: false, 500 * time.Millisecond: false, time.Second: false,
	} {
		if got := c.usable(end.Add(after)); got != want {
			t.Errorf("%v after its end it is served: %v", after, got)
		}
	}
}
