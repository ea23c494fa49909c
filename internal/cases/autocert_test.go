package cases

import (
	"crypto/tls"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// autocert returns the Manager of golang.org/x/crypto, which takes the place of
// the world's: all names now lead to it. What works with autocert must work
// with certmgr.
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

// ecdsaHello is from a client that supports only ECDSA. autocert takes other
// hellos for those of RSA-only clients.
func ecdsaHello(name string) *tls.ClientHelloInfo {
	return &tls.ClientHelloInfo{
		ServerName:       name,
		CipherSuites:     []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256},
		SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256, tls.ECDSAWithP384AndSHA384},
	}
}

// rsaHello is from a client that supports only RSA.
func rsaHello(name string) *tls.ClientHelloInfo {
	return &tls.ClientHelloInfo{
		ServerName:       name,
		CipherSuites:     []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256},
		SignatureSchemes: []tls.SignatureScheme{tls.PKCS1WithSHA256},
	}
}
