package servertest

import (
	"os"
	"os/exec"
	"os/user"
	"strconv"
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

func (p *Process) resume() { p.Continue() }

// Pause stops the server, as kill -STOP does, until Continue: it accepts
// connections and answers nothing.
func (s *Server) Pause() { s.Process().Pause() }

// Continue lets a paused server go on.
func (s *Server) Continue() { s.Process().Continue() }

// runAs makes root run a command as another user, since some servers refuse to
// serve root. Everybody else runs it as they are.
func runAs(cmd *exec.Cmd, name string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	uid, gid, err := idsOf(name)
	if err != nil {
		return err
	}
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = new(syscall.SysProcAttr)
	}
	cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	cmd.Dir = "/" // which every user can enter
	return nil
}

// giveTo makes a directory that of the user of runAs.
func giveTo(dir, name string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	uid, gid, err := idsOf(name)
	if err != nil {
		return err
	}
	return os.Chown(dir, uid, gid)
}

func idsOf(name string) (uid, gid int, err error) {
	u, err := user.Lookup(name)
	if err != nil {
		return 0, 0, err
	}
	if uid, err = strconv.Atoi(u.Uid); err != nil {
		return 0, 0, err
	}
	if gid, err = strconv.Atoi(u.Gid); err != nil {
		return 0, 0, err
	}
	return uid, gid, nil
}
