package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// recorder is the destination of a log: it stores the lines and their times.
type recorder struct {
	mu    sync.Mutex
	lines []logLine
	more  chan struct{} // closed at the next line
}

// logLine is one write of a log.
type logLine struct {
	at   time.Time
	text string
}

func newRecorder() *recorder { return &recorder{more: make(chan struct{})} }

func (r *recorder) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, logLine{time.Now(), strings.TrimSuffix(string(p), "\n")})
	close(r.more)
	r.more = make(chan struct{})
	return len(p), nil
}

// all returns the lines that contain all of parts, and a channel that is closed
// at the next line.
func (r *recorder) all(parts ...string) ([]logLine, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	found := slices.Clone(r.lines)
	for _, part := range parts {
		found = slices.DeleteFunc(found, func(l logLine) bool { return !strings.Contains(l.text, part) })
	}
	return found, r.more
}

// count returns how many lines contain all of parts.
func (r *recorder) count(parts ...string) int {
	found, _ := r.all(parts...)
	return len(found)
}

// wait waits for the first line that contains all of parts and returns it.
func (r *recorder) wait(ctx context.Context, parts ...string) (logLine, error) {
	for {
		found, more := r.all(parts...)
		if len(found) > 0 {
			return found[0], nil
		}
		select {
		case <-more:
		case <-ctx.Done():
			return logLine{}, fmt.Errorf("there is no line with %q: %w", parts, ctx.Err())
		}
	}
}

func (r *recorder) String() string {
	lines, _ := r.all()
	var b strings.Builder
	for _, line := range lines {
		b.WriteString(line.text + "\n")
	}
	return b.String()
}
