package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"time"
)

// machine is the parent's view of a server: its process and what it reports.
type machine struct {
	name    string
	addr    string // of the HTTPS server
	status  string // of the status page
	process *exec.Cmd
	input   io.Closer     // closing it ends the process
	read    chan struct{} // closed when all reports are read
}

// serverEnv is set in the environment of the servers.
const serverEnv = "NOSTALL_EXAMPLE_SERVER"

// startMachine starts a server, and returns when it listens.
func startMachine(name string, s setup, told *story) (*machine, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	m := &machine{name: name, process: exec.Command(program, "-server", name), read: make(chan struct{})}
	m.process.Stderr = os.Stderr
	m.process.Env = append(os.Environ(), serverEnv+"=1")
	input, err := m.process.StdinPipe()
	if err != nil {
		return nil, err
	}
	output, err := m.process.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := m.process.Start(); err != nil {
		return nil, err
	}
	m.input = input
	if err := json.NewEncoder(input).Encode(s); err != nil {
		return nil, err
	}
	reports := json.NewDecoder(output)
	var r report
	if err := reports.Decode(&r); err != nil {
		return nil, fmt.Errorf("no sign of life: %w", err)
	}
	m.addr, m.status = r.Addr, r.Status
	go func() {
		defer close(m.read)
		for {
			var r report
			if reports.Decode(&r) != nil {
				return
			}
			told.event(name, r)
		}
	}()
	return m, nil
}

// kill ends the process without any clean-up. Killing it again does nothing.
func (m *machine) kill() {
	_ = m.process.Process.Kill()
	<-m.read
	_ = m.process.Wait()
	_ = m.input.Close()
}

// holder waits until the status page of the server says who issues for a host,
// and returns that.
func (m *machine) holder(ctx context.Context, host string) (string, error) {
	page := "http://" + m.status + "/?format=json&host=" + url.QueryEscape(host)
	for {
		text, err := readHolder(ctx, page)
		if err != nil || text != "" {
			return text, err
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return "", err
		}
	}
}

// readHolder reads it once.
func readHolder(ctx context.Context, page string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, page, nil)
	if err != nil {
		return "", err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return "", errors.New("status page: " + res.Status)
	}
	var status struct {
		Hosts []struct {
			InFlight struct{ Holder string } `json:"in_flight"`
		}
	}
	if err := json.NewDecoder(res.Body).Decode(&status); err != nil || len(status.Hosts) == 0 {
		return "", err
	}
	return status.Hosts[0].InFlight.Holder, nil
}

// pause waits, or for the end of ctx.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
