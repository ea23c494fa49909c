// Package integration tests certmgr against real servers: currently Pebble, the
// small ACME CA of Let's Encrypt. It also tests the fake CA of package acmetest
// against third-party clients: acmez, certmagic and x/crypto/acme, and by a flag
// also programs in other languages, such as certbot; the status page in
// Chromium, and certmgr with HTTP/3 servers. It has only tests.
//
// This module's go.mod pins the servers' programs by tool directives, so that
// users of nostall never see them. The tests build them, start them on free
// loopback ports and stop them. Where they cannot be built, because there is no
// module proxy, the tests are skipped and print the command to run; with
// NOSTALL_REQUIRE_SERVICES=1 they fail instead.
package integration
