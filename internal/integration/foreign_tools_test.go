package integration

import (
	"encoding/pem"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/acmetest/dnstest"
)

func portOf(addr string) string {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		panic(err)
	}
	return port
}

// parsePEM returns the blocks of a file.
func parsePEM(content []byte) (blocks [][]byte) {
	for {
		block, rest := pem.Decode(content)
		if block == nil {
			return blocks
		}
		blocks, content = append(blocks, block.Bytes), rest
	}
}

// TestForeignBundle: OpenSSL, which looks issuers up by subject, and curl trust
// three CAs by one file, in any order.
func TestForeignBundle(t *testing.T) {
	f := newForeign(t, "curl", "curl openssl", nil)
	cas := []*acmetest.Server{f.ca}
	for range 2 {
		ca := acmetest.NewServer()
		defer ca.Close()
		cas = append(cas, ca)
	}
	for range cas {
		cas = append(cas[1:], cas[0])
		var roots []byte
		for _, ca := range cas {
			roots = append(roots, ca.RootPEM()...)
		}
		bundle := f.write("bundle.pem", string(roots))
		for _, ca := range cas {
			f.run("curl", "--silent", "--fail", "--cacert", bundle, ca.URL)
			addr := strings.TrimSuffix(strings.TrimPrefix(ca.URL, "https://"), "/directory")
			f.run("openssl", "s_client", "-CAfile", bundle, "-verify_return_error", "-connect", addr)
		}
	}
}

// TestForeignNsupdate: BIND's tools update and read records, signed or not.
func TestForeignNsupdate(t *testing.T) {
	f := newForeign(t, "nsupdate", "bind9-dnsutils", nil)
	for _, key := range []string{"", "key hmac-sha256:key " + tsigSecret + "\n"} {
		server := &dnstest.Server{CA: f.ca}
		if key != "" {
			server.Keys = map[string][]byte{"key": []byte("secret of a test")}
		}
		if err := server.Start(); err != nil {
			t.Fatal(err)
		}
		update := func(line string) {
			t.Helper()
			file := f.write("update", key+"server 127.0.0.1 "+portOf(server.Addr)+"\n"+line+"\nsend\n")
			f.run("nsupdate", file)
		}
		const name = "_acme-challenge.www.example.com"
		update("update add " + name + ". 60 TXT one")
		update("update add " + name + ". 60 TXT two")
		update("update delete " + name + ". TXT one")
		if got := f.ca.TXT(name); !slices.Equal(got, []string{"two"}) {
			t.Errorf("with key %q: records %q", key, got)
		}
		if got := f.run("dig", "+short", "@127.0.0.1", "-p", portOf(server.Addr), name, "TXT"); got != "\"two\"\n" {
			t.Errorf("with key %q: dig says %s", key, got)
		}
		update("update delete " + name + ".")
		if got := f.ca.TXT(name); len(got) != 0 {
			t.Errorf("with key %q: records %q", key, got)
		}
		server.Close()
	}
}
