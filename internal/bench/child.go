package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"time"
)

// childVariable is the environment variable that makes the command a child,
// which makes one measurement with one subject and exits. It holds an
// assignment.
const childVariable = "NOSTALL_BENCH_CHILD"

// childTimeout bounds one measurement.
const childTimeout = 3 * time.Minute

// assignment is the work of a child.
type assignment struct {
	Measurement string
	Subject     string
	Quick       bool
	Material    string // a file
}

// outcome is the result of a child.
type outcome struct {
	Samples []sample
	Error   string
}

// sizesFor returns the sizes of a run.
func sizesFor(quick bool) sizes {
	if quick {
		return quickSizes()
	}
	return fullSizes()
}

// startChild runs a measurement in a new process of this program.
func startChild(ctx context.Context, a assignment, procs int) ([]sample, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	spec, err := json.Marshal(a)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, childTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, program)
	cmd.Env = append(os.Environ(), childVariable+"="+string(spec))
	if procs > 0 {
		cmd.Env = append(cmd.Env, "GOMAXPROCS="+strconv.Itoa(procs))
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, bytes.TrimSpace(stderr.Bytes()))
	}
	var o outcome
	if err := json.Unmarshal(stdout.Bytes(), &o); err != nil {
		return nil, fmt.Errorf("the child answered %q: %w", stdout.Bytes(), err)
	}
	if o.Error != "" {
		return nil, fmt.Errorf("%s", o.Error)
	}
	return o.Samples, nil
}

// child is the main function of a child and returns its exit status. What it
// started runs until the process exits, soon after.
func child(spec string, stdout io.Writer) int {
	slog.SetDefault(slog.New(slog.DiscardHandler))
	samples, err := carryOut(context.Background(), spec)
	o := outcome{Samples: samples}
	if err != nil {
		o = outcome{Error: err.Error()}
	}
	if err := json.NewEncoder(stdout).Encode(o); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func carryOut(ctx context.Context, spec string) ([]sample, error) {
	var a assignment
	if err := json.Unmarshal([]byte(spec), &a); err != nil {
		return nil, fmt.Errorf("%s: %w", childVariable, err)
	}
	c := contestantNamed(a.Subject)
	if c == nil {
		return nil, fmt.Errorf("there is no subject %q", a.Subject)
	}
	for _, m := range measurements(sizesFor(a.Quick)) {
		if m.name != a.Measurement {
			continue
		}
		l, err := newLab(c.make(), a.Material, m.entries)
		if err != nil {
			return nil, err
		}
		return m.run(ctx, l)
	}
	return nil, fmt.Errorf("there is no measurement %q", a.Measurement)
}
