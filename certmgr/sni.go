package certmgr

import (
	"errors"

	"github.com/nostall/nostall/internal/hosts"
)

// What it means that there is no name, by who should have given it.
const (
	noSNI        = "the client sent no SNI; connect by host name, or set Manager.DefaultHost"
	noHostHeader = "the request has no Host header"
	noHost       = "the host is empty"
)

// normalizeHost returns the normal form of a host name, which everything in
// this package uses; see hosts.Normalize. The error wraps ErrNoServerName,
// whose text for an empty name is missing, or ErrBadServerName.
func normalizeHost(name, missing string) (string, error) {
	host, err := hosts.Normalize(name)
	if err != nil {
		return "", refuseName(name, missing, err)
	}
	return host, nil
}

// normalizeAny is normalizeHost, and returns the normal form of an IP address
// too; see hosts.NormalizeAny. It is for names that do not come from a
// ClientHello.
func normalizeAny(name, missing string) (string, error) {
	host, err := hosts.NormalizeAny(name)
	if err != nil {
		return "", refuseName(name, missing, err)
	}
	return host, nil
}

func refuseName(name, missing string, err error) error {
	if name == "" {
		return &refusal{kind: ErrNoServerName, text: missing}
	}
	var bad *hosts.NameError
	if !errors.As(err, &bad) {
		return &refusal{kind: ErrBadServerName, cause: err}
	}
	return &refusal{kind: ErrBadServerName, host: bad.Name, text: bad.Why, cause: bad.Err}
}
