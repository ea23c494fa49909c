package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strings"
	"time"
)

func main() {
	if spec := os.Getenv(childVariable); spec != "" {
		os.Exit(child(spec, os.Stdout))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	switch err := command(ctx, os.Args[1:], os.Stdout, os.Stderr); {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options are the flags.
type options struct {
	run, subjects, base, json string
	rounds                    int
	quick                     bool
}

func parseFlags(args []string, stderr io.Writer) (options, error) {
	var names []string
	for _, c := range contestants() {
		names = append(names, c.name)
	}
	var o options
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&o.run, "run", "", "only the measurements that match this `regexp`")
	flags.StringVar(&o.subjects, "subjects", strings.Join(names, ","), "only these subjects, a comma between each two")
	flags.StringVar(&o.base, "base", names[0], "the `subject` that ratios are to")
	flags.IntVar(&o.rounds, "rounds", 3, "how often each subject makes each measurement")
	flags.BoolVar(&o.quick, "quick", false, "tiny sizes, to see that everything works; the figures mean nothing")
	flags.StringVar(&o.json, "json", "", "write all values to this `file`")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	return o, nil
}

// plan returns the plan that the flags describe.
func (o options) plan(progress io.Writer) (plan, error) {
	p := plan{rounds: o.rounds, quick: o.quick, progress: progress}
	if o.rounds < 1 {
		return p, errors.New("-rounds has to be 1 at least")
	}
	pattern, err := regexp.Compile(o.run)
	if err != nil {
		return p, fmt.Errorf("-run: %w", err)
	}
	p.measurements = slices.DeleteFunc(measurements(sizesFor(o.quick)),
		func(m measurement) bool { return !pattern.MatchString(m.name) })
	if len(p.measurements) == 0 {
		return p, fmt.Errorf("-run %s matches no measurement", o.run)
	}
	for name := range strings.SplitSeq(o.subjects, ",") {
		c := contestantNamed(name)
		if c == nil {
			return p, fmt.Errorf("-subjects: there is no %q", name)
		}
		p.subjects = append(p.subjects, *c)
	}
	return p, nil
}

// command is the main function of the parent.
func command(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o, err := parseFlags(args, stderr)
	if err != nil {
		return err
	}
	p, err := o.plan(stderr)
	if err != nil {
		return err
	}
	started := time.Now()
	results, err := p.run(ctx)
	if err != nil {
		return err
	}
	t := &table{base: o.base, results: results}
	for _, c := range p.subjects {
		t.subjects = append(t.subjects, c.name)
	}
	if err := t.write(stdout); err != nil {
		return err
	}
	if o.json != "" {
		if err := newReport(p, started, results).writeFile(o.json); err != nil {
			return err
		}
	}
	if slices.ContainsFunc(results, func(r result) bool { return r.Failed }) {
		return errors.New("some measurements failed: see the notes")
	}
	return nil
}
