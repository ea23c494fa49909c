package servertest

import (
	"bytes"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
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

// signalGroup sends a signal to the process group of a process. One that stops or
// ends processes goes to all that it has started, also in groups of their own, as
// PostgreSQL does for each connection.
func signalGroup(pid int, s syscall.Signal) error {
	if s != syscall.SIGSTOP && s != syscall.SIGCONT && s != syscall.SIGKILL {
		return syscall.Kill(-pid, s)
	}
	if s == syscall.SIGKILL {
		syscall.Kill(pid, syscall.SIGSTOP) // it starts no more
	}
	err := syscall.Kill(-pid, s)
	for _, child := range children(pid) {
		if failed := signalGroup(child, s); failed != nil && failed != syscall.ESRCH {
			err = failed
		}
	}
	return err
}

// children returns the processes that a process has started, and that have not
// ended.
func children(pid int) []int {
	files, err := filepath.Glob(filepath.Join("/proc", strconv.Itoa(pid), "task", "*", "children"))
	if err != nil {
		return nil
	}
	var pids []int
	for _, file := range files {
		list, err := os.ReadFile(file)
		if err != nil {
			continue // the thread has ended
		}
		for field := range strings.FieldsSeq(string(list)) {
			if child, err := strconv.Atoi(field); err == nil {
				pids = append(pids, child)
			}
		}
	}
	return pids
}

// Pause stops the process and its children, as kill -STOP does, until Continue. It
// returns when they have stopped.
func (p *Process) Pause() {
	p.signal(syscall.SIGSTOP)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !stopped(p.cmd.Process.Pid) {
		select {
		case <-tick.C:
		case <-p.done:
			return
		}
	}
}

// stopped reports whether a process and those that it has started have stopped:
// each of their threads stops as soon as it notices the signal.
func stopped(pid int) bool {
	files, err := filepath.Glob(filepath.Join("/proc", strconv.Itoa(pid), "task", "*", "stat"))
	if err != nil {
		return false
	}
	for _, file := range files {
		stat, err := os.ReadFile(file)
		if err != nil {
			continue // the thread has ended
		}
		// After the name, in parentheses, comes the state.
		_, state, _ := strings.Cut(string(stat[max(bytes.LastIndexByte(stat, ')'), 0):]), " ")
		if state == "" || !strings.Contains("TtZX", state[:1]) {
			return false
		}
	}
	for _, child := range children(pid) {
		if !stopped(child) {
			return false
		}
	}
	return true
}

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
