package certmgr

import (
	"crypto/x509"
	"math/big"
	"testing"
)

func TestSerialAsToolsPrintIt(t *testing.T) {
	for n, want := range map[int64]string{255: "ff", 256: "0100", 0x7fff: "7fff"} {
		if got := serialOf(&x509.Certificate{SerialNumber: big.NewInt(n)}); got != want {
			t.Errorf("serial %d is %q, want %q", n, got, want)
		}
	}
}
