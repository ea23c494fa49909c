// Package integration tests certmgr against real servers: as of now Pebble, the
// small ACME CA of Let's Encrypt. It also tests the fake CA of package acmetest
// against clients that others wrote: acmez, certmagic and x/crypto/acme, the status
// page in Chromium, and servers of HTTP/3. All of it is in tests.
//
// The servers' programs are pinned in this module's go.mod by tool directives,
// so that users of nostall never see them. The tests build them, start them on
// free ports of the loopback interface and end them. Where they cannot be
// built, because there is no module proxy, the tests are skipped and say what
// to run; with NOSTALL_REQUIRE_SERVICES=1 they fail instead.
package integration
