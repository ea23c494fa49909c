package servertest

import (
	"os/exec"
	"strings"
	"testing"
)

// What a process writes is kept, and its end is seen.
func TestProcessRunsToItsEnd(t *testing.T) {
	p := Start(t, exec.Command(Program(t, "sh", "dash"), "-c", "echo hello"))
	<-p.Done()
	if got := strings.TrimSpace(p.Output()); got != "hello" {
		t.Errorf("the process wrote %q", got)
	}
	if err := p.End(); err != nil {
		t.Errorf("the process ended with %v", err)
	}
}

// Kill ends the children too: they would hold the server's ports.
func TestKillEndsChildren(t *testing.T) {
	p := Start(t, exec.Command(Program(t, "sh", "dash"), "-c", "sleep 1000 & wait"))
	p.Kill()
	if p.err == nil {
		t.Error("the process ended by itself")
	}
}
