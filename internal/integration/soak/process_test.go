package soak

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// service is a server over its generations: the processes that run it one after
// the other. It is used by one goroutine.
type service struct {
	config  serverConfig
	client  *http.Client // for the control port
	process *process
	phase   string
	started int      // generations
	past    []vitals // the last of each generation
	samples []sample // of all generations
}

// sample is what a server told at a time since the beginning of the soak.
type sample struct {
	at         time.Duration
	generation int // from 0
	vitals
}

// process is one generation of a server.
type process struct {
	cmd    *exec.Cmd
	stdin  io.Closer // closing it ends the process in good order
	out    *bytes.Buffer
	exited chan struct{} // closed once err is set
	err    error
}

// start starts the next generation.
func (s *service) start() error {
	config, err := json.Marshal(s.config)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	p := &process{cmd: exec.Command(self), out: new(bytes.Buffer), exited: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), serverEnv+"="+string(config), "GORACE=halt_on_error=1")
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return err
	}
	if err := p.cmd.Start(); err != nil {
		return err
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.exited)
	}()
	s.process = p
	s.started++
	return s.await()
}

// await waits until the new process answers.
func (s *service) await() error {
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for {
		if s.setPhase(s.phase) == nil {
			return nil
		}
		select {
		case <-poll.C:
		case <-s.process.exited:
			return fmt.Errorf("%s ended before it was ready: %w\n%s", s.config.Name, s.process.err, s.process.out)
		}
	}
}

// kill ends the process as a crash does.
func (s *service) kill(t *testing.T) {
	t.Helper()
	select {
	case <-s.process.exited:
		t.Fatalf("%s ended by itself: %v\n%s", s.config.Name, s.process.err, s.process.out)
	default:
	}
	if last := s.last(); last != nil {
		s.past = append(s.past, last.vitals)
	}
	s.process.cmd.Process.Kill()
	<-s.process.exited
}

// end ends the process in good order, and checks that it was in order.
func (s *service) end(t *testing.T) {
	t.Helper()
	if last := s.last(); last != nil {
		s.past = append(s.past, last.vitals)
	}
	s.process.stdin.Close()
	<-s.process.exited
	if out := s.process.out.String(); s.process.err != nil || strings.TrimSpace(out) != "" {
		t.Errorf("%s: %v\n%s", s.config.Name, s.process.err, out)
	}
}

// last returns the last sample of the current generation, or nil.
func (s *service) last() *sample {
	if n := len(s.samples); n > 0 && s.samples[n-1].generation == s.generation() {
		return &s.samples[n-1]
	}
	return nil
}

func (s *service) generation() int { return s.started - 1 }

// setPhase says what strangers do from now on.
func (s *service) setPhase(name string) error {
	s.phase = name
	res, err := s.client.Get("http://" + s.config.Control + "/phase?name=" + url.QueryEscape(name))
	if err != nil {
		return err
	}
	return res.Body.Close()
}

// look takes a sample.
func (s *service) look(began time.Time) error {
	res, err := s.client.Get("http://" + s.config.Control + "/vitals")
	if err != nil {
		return err
	}
	defer res.Body.Close()
	now := sample{at: time.Since(began), generation: s.generation()}
	if err := json.NewDecoder(res.Body).Decode(&now.vitals); err != nil {
		return err
	}
	s.samples = append(s.samples, now)
	return nil
}
