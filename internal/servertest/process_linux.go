package servertest

import (
	"os/exec"
	"syscall"
)

// setGroup puts a command into a process group of its own, and has it killed if
// the test process dies.
func setGroup(cmd *exec.Cmd) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = new(syscall.SysProcAttr)
	}
	cmd.SysProcAttr.Setpgid = true
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
}

func signalGroup(pid int, s syscall.Signal) error { return syscall.Kill(-pid, s) }

// Pause stops the process and its children, as kill -STOP does, until Continue.
func (p *Process) Pause() { p.signal(syscall.SIGSTOP) }

// Continue lets a paused process go on.
func (p *Process) Continue() { p.signal(syscall.SIGCONT) }
