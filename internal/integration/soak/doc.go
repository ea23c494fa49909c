// Package soak runs servers with certmgr for minutes of real time, on loopback,
// against a CA that misbehaves and among strangers that flood them: one server
// that is never restarted, and one that is killed each minute. It then checks
// what they served and what they used, and prints tables. It has only tests.
//
// TestSoak takes some seconds, so that it cannot rot. For a run that means
// something:
//
//	go test -race -run TestSoak -timeout 0 -v ./internal/integration/soak -soak.for 20m
//
// Certificates live for minutes, so renewals never cease, and the Managers have
// neither a pace nor a budget of orders. The servers are child processes of the
// same test binary, and end with it.
package soak
