package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/nostall/nostall/examples/internal/columns"
)

// measure is one of the three counted quantities, and a panel of the picture.
type measure struct {
	title string
	of    func(sample) int
}

var measures = []measure{
	{"handshakes in flight", func(s sample) int { return s.InFlight }},
	{"goroutines", func(s sample) int { return s.Goroutines }},
	{"open descriptors", func(s sample) int { return s.Descriptors }},
}

// known reports whether the system provides the measure: only Linux has
// /proc/self/fd.
func (m measure) known(s *side) bool { return m.of(s.samples[0]) >= 0 }

func (m measure) peak(s *side) int {
	peak := 0
	for _, sample := range s.samples {
		peak = max(peak, m.of(sample))
	}
	return peak
}

func (m measure) final(s *side) int { return m.of(s.samples[len(s.samples)-1]) }

// summary prints peaks, final values, and what clients and operators saw.
func summary(w io.Writer, o options, sides []*side) {
	row := func(format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) }
	row("")
	row("%-22s %18s %18s", "", sides[0].name, sides[1].name)
	row("%-22s %9s%9s %9s%9s", "", "peak", "final", "peak", "final")
	for _, m := range measures {
		if !m.known(sides[0]) {
			row("%-22s are left out: this system has no /proc/self/fd", m.title)
			continue
		}
		row("%-22s %9d%9d %9d%9d", m.title, m.peak(sides[0]), m.final(sides[0]), m.peak(sides[1]), m.final(sides[1]))
	}
	each := func(title string, value func(*side) any) {
		row("%-22s %18v %18v", title, value(sides[0]), value(sides[1]))
	}
	each("visitors answered", func(s *side) any { return len(s.waits) })
	each("  after (median)", func(s *side) any { return s.median() })
	each("visitors who gave up", func(s *side) any { return s.left })
	each("orders sent to the CA", func(s *side) any { return s.ca.CountHost("newOrder", host) })
	for _, s := range sides {
		row("")
		s.summarizeLog(w, o)
	}
}

func (s *side) median() any {
	if len(s.waits) == 0 {
		return "-"
	}
	waits := slices.Clone(s.waits)
	slices.Sort(waits)
	return waits[len(waits)/2].Round(10 * time.Microsecond)
}

// summarizeLog prints the first line of the log that names the host and the
// next attempt, or else what there is instead. Lines of net/http, which repeat
// for each handshake, do not count: a program may have silenced them.
func (s *side) summarizeLog(w io.Writer, o options) {
	print := func(format string, args ...any) {
		fmt.Fprintln(w, columns.Wrap(fmt.Sprintf(format, args...), "    ", 0))
	}
	failed, what := s.ca.failed()
	for _, line := range s.log {
		if strings.Contains(line.text, " http: ") || !strings.Contains(line.text, host) ||
			!strings.Contains(line.text, "next attempt") {
			continue
		}
		print("%s named the host, the cause and the next attempt in its log, %v after %s:",
			s.name, line.at.Sub(failed).Round(time.Millisecond), what)
		print("  %s", line.text)
		return
	}
	print("%s itself logged nothing of the host in %v; net/http wrote %d lines", s.name, o.length, s.lines)
	if len(s.log) > 0 {
		print("  the first, after %v: %s", s.log[0].at.Sub(s.start).Round(time.Millisecond), s.log[0].text)
	}
}
