// Package pemfiles writes a Manager's certificates to PEM files, for mail
// servers, load balancers and other programs on the same machine:
//
//	m.Issued = (&pemfiles.Dir{Path: "/etc/haproxy/certs"}).Issued
//
// There is one file for each host. It holds the private key first, then the
// certificate, then its issuers. As key and certificate are in one file, which
// is replaced by a rename, no reader ever sees a key that does not fit its
// certificate, or half a file. The programs that read certificates take such a
// file:
//
//   - HAProxy: bind :443 ssl crt /etc/haproxy/certs/ (or one file)
//   - Postfix 3.4 and later: smtpd_tls_chain_files = /etc/postfix/certs/mail.example.com.pem
//   - nginx: the same file as ssl_certificate and as ssl_certificate_key
//   - Dovecot: the same file for the certificate and for the key
//   - Apache httpd: SSLCertificateFile alone
//
// Files are named after the host: mail.example.com.pem. That of an RSA
// certificate, which a host may have in addition, is mail.example.com+rsa.pem. A
// wildcard's asterisk becomes an underscore, as do the colons of an IPv6 address:
// 2001_db8__1.pem. Files of hosts that are no longer
// served stay.
package pemfiles
