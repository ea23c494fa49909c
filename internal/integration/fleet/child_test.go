package fleet

import (
	"encoding/json"
	"net"
	"net/rpc"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/nostall/nostall/internal/servertest"
)

// child is a process of the fleet, with a connection to its control.
type child struct {
	*servertest.Process
	name  string
	addrs []net.Addr // of its listeners
	rpc   *rpc.Client
}

// startChild starts a process with so many listeners and one for its control.
func startChild(t *testing.T, name string, r role, listeners int) *child {
	t.Helper()
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := &child{name: name}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), roleEnv+"="+string(text), "GORACE=halt_on_error=1")
	for range listeners + 1 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		file, err := l.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		// The port must be closed when the process is killed.
		defer file.Close()
		defer l.Close()
		cmd.ExtraFiles = append(cmd.ExtraFiles, file)
		c.addrs = append(c.addrs, l.Addr())
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.Process = servertest.Start(t, cmd)
	conn, err := net.Dial("tcp", c.addrs[listeners].String())
	if err != nil {
		t.Fatal(err)
	}
	c.rpc = rpc.NewClient(conn)
	t.Cleanup(func() {
		c.rpc.Close()
		stdin.Close()
	})
	return c
}

// call calls a method of the process.
func (c *child) call(t *testing.T, method string, args, reply any) {
	t.Helper()
	if err := c.try(method, args, reply); err != nil {
		t.Fatalf("%s: %s: %v\n%s", c.name, method, err, c.Output())
	}
}

// try calls a method of the process.
func (c *child) try(method string, args, reply any) error {
	service := "Machine."
	if c.name == "CA" {
		service = "CA."
	}
	timeout := time.NewTimer(2 * patience)
	defer timeout.Stop()
	select {
	case done := <-c.rpc.Go(service+method, args, reply, make(chan *rpc.Call, 1)).Done:
		return done.Error
	case <-c.Done():
		return os.ErrProcessDone
	case <-timeout.C:
		return os.ErrDeadlineExceeded
	}
}
