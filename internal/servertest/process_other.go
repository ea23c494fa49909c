//go:build !linux

package servertest

import (
	"os"
	"os/exec"
	"syscall"
)

func setGroup(*exec.Cmd) {}

func signalGroup(pid int, _ syscall.Signal) error {
	p, err := os.FindProcess(pid)
	if err != nil {
		return err
	}
	return p.Kill()
}

func (p *Process) resume() {}

func runAs(*exec.Cmd, string) error { return nil }

func giveTo(string, string) error { return nil }
