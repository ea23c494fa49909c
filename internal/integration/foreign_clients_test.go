package integration

import (
	"testing"

	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/acmetest/dnstest"
)

// Each of these clients obtains a certificate, renews it, and revokes it if it
// can, without a request that the CA refuses.

func TestForeignCertbot(t *testing.T) {
	f := newForeign(t, "certbot", "certbot", func(ca *acmetest.Server) { ca.Terms = "https://ca.example/terms" })
	f.env = append(f.env, "REQUESTS_CA_BUNDLE="+f.root)
	certbot := func(args ...string) {
		t.Helper()
		f.run("certbot", append(args, "--non-interactive", "--server", f.ca.URL,
			"--config-dir", f.dir, "--work-dir", f.dir, "--logs-dir", f.dir)...)
	}
	certbot("certonly", "--webroot", "-w", f.www, "-d", "a.example.com", "-d", "b.example.com", "--agree-tos", "--register-unsafely-without-email")
	certbot("renew", "--force-renewal", "--no-random-sleep-on-renew")
	certbot("revoke", "--cert-name", "a.example.com", "--no-delete-after-revoke")
	f.want(2, 1)
}

// TestForeignCertbotOverDNS: signed updates (RFC 2136) of the records that the
// CA looks at.
func TestForeignCertbotOverDNS(t *testing.T) {
	f := newForeign(t, "certbot", "certbot python3-certbot-dns-rfc2136", nil)
	f.env = append(f.env, "REQUESTS_CA_BUNDLE="+f.root)
	server := &dnstest.Server{CA: f.ca, Keys: map[string][]byte{"key": []byte("secret of a test")}}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	credentials := f.write("rfc2136.ini", "dns_rfc2136_server = 127.0.0.1\ndns_rfc2136_port = "+portOf(server.Addr)+
		"\ndns_rfc2136_name = key\ndns_rfc2136_secret = "+tsigSecret+"\ndns_rfc2136_algorithm = HMAC-SHA512\n")
	f.run("certbot", "certonly", "--non-interactive", "--server", f.ca.URL, "--config-dir", f.dir, "--work-dir", f.dir, "--logs-dir", f.dir,
		"--agree-tos", "--register-unsafely-without-email", "-d", "example.com", "-d", "*.example.com",
		"--dns-rfc2136", "--dns-rfc2136-credentials", credentials, "--dns-rfc2136-propagation-seconds", "0")
	f.want(1, 0)
	if left := f.ca.TXT("_acme-challenge.example.com"); len(left) != 0 {
		t.Errorf("records %q are left", left)
	}
}

func TestForeignDehydrated(t *testing.T) {
	f := newForeign(t, "dehydrated", "dehydrated", nil)
	f.env = append(f.env, "CURL_CA_BUNDLE="+f.root)
	config := f.write("config", "CA=@URL@\nBASEDIR=@DIR@\nWELLKNOWN=@WWW@/.well-known/acme-challenge\nACCOUNT_KEYSIZE=2048\nKEY_ALGO=prime256v1\n")
	f.run("dehydrated", "--config", config, "--register", "--accept-terms")
	f.run("dehydrated", "--config", config, "--cron", "--domain", "a.example.com b.example.com")
	f.run("dehydrated", "--config", config, "--cron", "--force", "--domain", "a.example.com b.example.com")
	f.run("dehydrated", "--config", config, "--revoke", f.dir+"/certs/a.example.com/cert.pem")
	f.want(2, 1)
}

func TestForeignAcmeTiny(t *testing.T) {
	f := newForeign(t, "acme-tiny", "acme-tiny openssl", nil)
	account, key := f.makeKey("account.key", "RSA"), f.makeKey("site.key", "EC")
	f.run("openssl", "req", "-new", "-key", key, "-subj", "/", "-addext", "subjectAltName=DNS:a.example.com", "-out", "request.pem")
	f.env = append(f.env, "SSL_CERT_FILE="+f.root)
	for range 2 {
		f.run("acme-tiny", "--account-key", account, "--csr", "request.pem", "--acme-dir", f.challenges(), "--directory-url", f.ca.URL, "--disable-check")
	}
	f.want(2, 0)
}

func TestForeignLego(t *testing.T) {
	f := newForeign(t, "lego", "lego", nil)
	f.env = append(f.env, "LEGO_CA_CERTIFICATES="+f.root)
	lego := func(args ...string) {
		t.Helper()
		f.run("lego", append([]string{"--path", f.dir, "--server", f.ca.URL, "--accept-tos", "--email", "a@example.com",
			"--domains", "a.example.com", "--http", "--http.webroot", f.www}, args...)...)
	}
	lego("run")
	lego("renew", "--days", "1000", "--no-random-sleep")
	lego("revoke")
	f.want(2, 1)
}

func TestForeignLegoOverDNS(t *testing.T) {
	f := newForeign(t, "lego", "lego", nil)
	server := dnstest.NewServer(f.ca)
	defer server.Close()
	f.env = append(f.env, "LEGO_CA_CERTIFICATES="+f.root, "RFC2136_NAMESERVER="+server.Addr)
	f.run("lego", "--path", f.dir, "--server", f.ca.URL, "--accept-tos", "--email", "a@example.com", "--domains", "*.example.com",
		"--dns", "rfc2136", "--dns.resolvers", server.Addr, "--dns.disable-cp", "run")
	f.want(1, 0)
}

func TestForeignUacme(t *testing.T) {
	f := newForeign(t, "uacme", "uacme openssl", nil)
	hook := f.write("hook.sh", `#!/bin/sh
# The arguments: method, type, name, token, key authorization.
[ "$2" = http-01 ] || exit 1
if [ "$1" = begin ]; then printf %s "$5" >@WWW@/.well-known/acme-challenge/"$4"; fi
`)
	f.runTrusting("uacme='uacme --confdir @DIR@ --acme-url @URL@ --yes --type EC'\n" +
		"$uacme new\n" +
		"$uacme --hook " + hook + " issue a.example.com b.example.com\n" +
		"$uacme --hook " + hook + " --force issue a.example.com b.example.com\n" +
		"$uacme revoke @DIR@/a.example.com/cert.pem\n")
	f.want(2, 1)
}

func TestForeignLacme(t *testing.T) {
	f := newForeign(t, "lacme", "lacme lacme-accountd libcrypt-openssl-rsa-perl libcrypt-openssl-bignum-perl openssl", nil)
	f.makeKey("account.key", "RSA")
	f.makeKey("site.key", "EC")
	f.write("accountd.conf", "privkey = file:@DIR@/account.key\n")
	f.write("lacme.conf", "[client]\nserver = @URL@\nuser =\ngroup =\n"+
		"[webserver]\nchallenge-directory = @WWW@/.well-known/acme-challenge\nuser =\ngroup =\n"+
		"[accountd]\nconfig = @DIR@/accountd.conf\n")
	f.write("certs.conf", "[site]\ncertificate-key = @DIR@/site.key\ncertificate = @DIR@/cert.pem\nCAfile = @ROOT@\n"+
		"subject = /CN=a.example.com\nsubjectAltName = DNS:a.example.com\n")
	f.runTrusting("lacme='lacme --config=@DIR@/lacme.conf'\n" +
		"$lacme account --register --tos-agreed\n" +
		"$lacme newOrder --config-certs=@DIR@/certs.conf\n" +
		"$lacme newOrder --force --config-certs=@DIR@/certs.conf\n" +
		"$lacme revokeCert @DIR@/cert.pem\n")
	f.want(2, 1)
}
