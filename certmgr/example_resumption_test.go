package certmgr_test

import (
	"crypto/tls"
	"fmt"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/cache"
)

// A configuration of one's own asks before it resumes a session, since a resumed
// session requests no certificate. What the Manager has no say in is resumed as
// before; here, that is a name with a certificate of its own.
func ExampleManager_MayResume() {
	m := &certmgr.Manager{
		Prompt: certmgr.AcceptTOS,
		Cache:  new(cache.Memory),
		Hosts:  certmgr.MustAllowlist("www.example.com"),
	}
	defer m.Close()

	config := &tls.Config{NextProtos: []string{"h2", "http/1.1", "acme-tls/1"}}
	var internal *tls.Certificate // loaded from a file
	config.GetCertificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		if hello.ServerName == "db.internal" {
			return internal, nil
		}
		return m.GetCertificate(hello)
	}
	config.WrapSession = config.EncryptTicket
	config.UnwrapSession = func(ticket []byte, cs tls.ConnectionState) (*tls.SessionState, error) {
		if cs.ServerName != "db.internal" && !m.MayResume(cs) {
			return nil, nil // a full handshake, in which GetCertificate decides
		}
		return config.DecryptTicket(ticket, cs)
	}

	fmt.Println(m.MayResume(tls.ConnectionState{ServerName: "www.example.com"})) // there is no certificate yet
	// Output: false
}
