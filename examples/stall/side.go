package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// side is the parent's view of a side: its CA, its process, its clients, and
// their results.
type side struct {
	name  string
	ca    *brokenCA
	cache string
	addr  string
	start time.Time

	process *exec.Cmd
	input   io.Closer      // closing it ends the process
	readers sync.WaitGroup // readers of the process's output

	visitors sync.WaitGroup

	mu      sync.Mutex
	samples []sample
	log     []logLine // the first of each kind
	lines   int       // all lines
	waits   []time.Duration
	left    int // clients that left without an answer
}

// logLine is a line of the process's log.
type logLine struct {
	at   time.Time
	text string
}

// startSide starts the CA and the process, and returns when the server is
// listening.
func startSide(ctx context.Context, name string, o options) (*side, error) {
	s := &side{name: name, start: time.Now(), ca: newBrokenCA(o.fault)}
	if err := s.launch(ctx, o); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *side) launch(ctx context.Context, o options) error {
	var err error
	if s.cache, err = os.MkdirTemp("", "nostall-"+s.name+"-"); err != nil {
		return err
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	s.process = exec.CommandContext(ctx, program, "-side", s.name)
	input, err := s.process.StdinPipe()
	if err != nil {
		return err
	}
	output, err := s.process.StdoutPipe()
	if err != nil {
		return err
	}
	log, err := s.process.StderrPipe()
	if err != nil {
		return err
	}
	if err := s.process.Start(); err != nil {
		return err
	}
	s.input = input
	s.readers.Go(func() { s.readLog(log) })
	if err := json.NewEncoder(input).Encode(setup{s.ca.URL, s.ca.Certificate().Raw, s.cache, o.sample}); err != nil {
		return err
	}
	samples := json.NewDecoder(output)
	var first sample
	if err := samples.Decode(&first); err != nil {
		return fmt.Errorf("no sign of life from the server: %w", err)
	}
	s.addr = first.Addr
	s.readers.Go(func() { s.readSamples(samples) })
	return nil
}

func (s *side) readSamples(from *json.Decoder) {
	for {
		var next sample
		if from.Decode(&next) != nil {
			return
		}
		s.mu.Lock()
		s.samples = append(s.samples, next)
		s.mu.Unlock()
	}
}

// readLog keeps the first line of each kind: net/http writes one for each
// failed handshake.
func (s *side) readLog(from io.Reader) {
	known := make(map[string]bool)
	lines := bufio.NewScanner(from)
	for lines.Scan() {
		text := lines.Text()
		kind := text
		if _, reason, ok := strings.Cut(text, "TLS handshake error from "); ok {
			_, kind, _ = strings.Cut(reason, ": ") // without the client's address
		}
		s.mu.Lock()
		s.lines++
		if !known[kind] && len(known) < 1000 {
			known[kind] = true
			s.log = append(s.log, logLine{time.Now(), text})
		}
		s.mu.Unlock()
	}
}

// visit is a client that connects, waits for the handshake as long as its
// patience lasts, and leaves. Clients interrupted by the end of the run do not
// count.
func (s *side) visit(run context.Context, patience time.Duration) {
	ctx, cancel := context.WithTimeout(run, patience)
	defer cancel()
	start := time.Now()
	dialer := tls.Dialer{Config: &tls.Config{ServerName: host}}
	conn, err := dialer.DialContext(ctx, "tcp", s.addr)
	if err == nil {
		_ = conn.Close()
	}
	wait := time.Since(start)
	var timeout net.Error
	gone := ctx.Err() != nil || errors.As(err, &timeout) && timeout.Timeout()
	end, _ := run.Deadline()
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !gone:
		s.waits = append(s.waits, wait) // an answer, possibly an alert
	case run.Err() == nil && start.Add(patience).Before(end):
		s.left++
	}
}

// stop ends the process and waits until all its output is read.
func (s *side) stop() error {
	_ = s.input.Close()
	s.readers.Wait()
	if err := s.process.Wait(); err != nil {
		return err
	}
	if len(s.samples) == 0 {
		return errors.New("the process wrote no sample")
	}
	return nil
}

// close releases the remaining resources. It may be called at any time.
func (s *side) close() {
	if s.input != nil {
		_ = s.input.Close()
	}
	if s.process != nil && s.process.ProcessState == nil && s.process.Process != nil {
		_ = s.process.Process.Kill()
		_ = s.process.Wait()
	}
	s.readers.Wait()
	s.ca.close()
	if s.cache != "" {
		_ = os.RemoveAll(s.cache)
	}
}
