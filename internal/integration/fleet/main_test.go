package fleet

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/rpc"
	"os"
	"testing"
	"time"
)

var (
	all    = flag.Bool("fleet.all", false, "run each fault on each store")
	update = flag.Bool("update", false, "write what -fleet.all measures to docs/fleets.md")
)

// lease is how long a machine has the lock of a host unless it extends it, where
// it is to lose it. The default is ten times as long.
const lease = 3 * time.Second

// patience is how long a test waits for what has to happen. Machines that are
// busy with other things take long, so it is not what is promised.
const patience = 2 * time.Minute

// roleEnv makes the test binary a process of the fleet: it has its role as JSON.
const roleEnv = "NOSTALL_FLEET_ROLE"

// role is what a child process is to do. One of its fields is set.
type role struct {
	CA      *caConfig
	Machine *machineConfig
}

func TestMain(m *testing.M) {
	text, child := os.LookupEnv(roleEnv)
	if !child {
		os.Exit(m.Run())
	}
	if err := play(text); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// play runs a child process until its standard input ends, which it does when
// the test's process ends in whatever way.
func play(text string) error {
	var r role
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		return err
	}
	var (
		end func() error
		err error
	)
	if r.CA != nil {
		end, err = r.CA.serve()
	} else {
		end, err = r.Machine.serve()
	}
	if err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	return end()
}

// inherited returns the i-th listener that the parent passed.
func inherited(i int) (net.Listener, error) {
	file := os.NewFile(uintptr(3+i), fmt.Sprintf("listener %d", i))
	defer file.Close() // the listener has a duplicate
	return net.FileListener(file)
}

// control serves the methods of an object to the test, by net/rpc.
func control(l net.Listener, name string, object any) error {
	server := rpc.NewServer()
	if err := server.RegisterName(name, object); err != nil {
		return err
	}
	go server.Accept(l)
	return nil
}
