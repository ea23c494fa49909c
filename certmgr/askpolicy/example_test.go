package askpolicy_test

import (
	"log"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/askpolicy"
)

// A server whose customers point their domains at it: an endpoint of the
// application says which names are theirs.
func Example() {
	policy, err := askpolicy.New("http://localhost:8081/ask", nil)
	if err != nil {
		log.Fatal(err)
	}
	defer policy.Close()
	m := &certmgr.Manager{
		Prompt:     certmgr.AcceptTOS,
		Cache:      certmgr.DirCache("/var/lib/certs"),
		HostPolicy: policy.Allow,
	}
	defer m.Close()
}
