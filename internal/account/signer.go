package account

import (
	"crypto"
	"fmt"
	"io"

	"github.com/nostall/nostall/internal/text"
)

// signer is the user's key. If it cannot sign, perhaps because a key management
// service is down, that is not the CA's fault.
type signer struct{ crypto.Signer }

var _ crypto.MessageSigner = signer{}

// userSigner returns the key as a signer, or nil.
func userSigner(key crypto.Signer) crypto.Signer {
	if key == nil {
		return nil
	}
	return signer{key}
}

func (s signer) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	signature, err := s.Signer.Sign(rand, digest, opts)
	return signature, signError(err)
}

// SignMessage implements crypto.MessageSigner, as the key may.
func (s signer) SignMessage(rand io.Reader, msg []byte, opts crypto.SignerOpts) ([]byte, error) {
	signature, err := crypto.SignMessage(s.Signer, rand, msg, opts)
	return signature, signError(err)
}

// maxSignError is short, so that callers that bound errors keep the type.
const maxSignError = 256

func signError(err error) error {
	if err == nil {
		return nil
	}
	if len(text.Of(err)) > maxSignError {
		return unavailable{err: fmt.Errorf("Manager.Client.Key cannot sign: %s", text.OneLine(text.Of(err), maxSignError))}
	}
	return unavailable{err: fmt.Errorf("Manager.Client.Key cannot sign: %w", err)}
}
