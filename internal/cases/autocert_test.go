package cases

import (
	"crypto/tls"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// autocert returns the Manager of golang.org/x/crypto in the place of the world's:
// what works with it has to work with certmgr. The names of all hosts lead to it
// from now on.
func (w *world) autocert(c autocert.Cache) *autocert.Manager {
	m := &autocert.Manager{
		Prompt:     autocert.AcceptTOS,
		Cache:      c,
		HostPolicy: autocert.HostWhitelist(host),
		Client:     &acme.Client{DirectoryURL: w.ca.URL, HTTPClient: w.ca.Client()},
	}
	w.ca.Resolve("*", acmetest.Target{TLSConfig: m.TLSConfig()})
	return m
}

// ecdsaHello is a visitor's who takes ECDSA alone. autocert takes others for clients
// of RSA alone.
func ecdsaHello(name string) *tls.ClientHelloInfo {
	return &tls.ClientHelloInfo{
		ServerName:       name,
		CipherSuites:     []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256},
		SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256, tls.ECDSAWithP384AndSHA384},
	}
}

// rsaHello is a visitor's who takes RSA alone.
func rsaHello(name string) *tls.ClientHelloInfo {
	return &tls.ClientHelloInfo{
		ServerName:       name,
		CipherSuites:     []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256},
		SignatureSchemes: []tls.SignatureScheme{tls.PKCS1WithSHA256},
	}
}
