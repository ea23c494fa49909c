// Package fleet runs several machines that share a store: three processes of an
// HTTPS server behind a load balancer, with certificates of a fake CA in a
// process of its own, on each of the stores that certmgr can lock. It has only
// tests.
//
// TestOneOrderForEachHost has 200 new hosts visited on all machines at once.
// TestFaults holds one machine in each stage of an issuance and then kills it,
// pauses it, or takes its store away. It does so for a part of the stores and
// faults, and for all of them with
//
//	go test -run TestFaults -timeout 20m ./internal/integration/fleet -fleet.all
//
// (from the root of the repository, with GOWORK=$PWD/backends.work). It takes two
// minutes, since all stages are tried at once. With -update as well, docs/fleets.md
// gets what was measured.
//
// The CA and the machines are child processes of the test binary. They inherit
// their listeners, so their addresses are known before they run, and end when
// their standard input ends.
package fleet
