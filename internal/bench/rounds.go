package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
)

// plan is the configuration of a run.
type plan struct {
	measurements []measurement
	subjects     []contestant
	rounds       int
	quick        bool
	progress     io.Writer // a line for each measurement
}

// result is the result of one subject for one metric of one measurement.
type result struct {
	Measurement string    `json:"measurement"`
	Metric      string    `json:"metric"`
	Unit        string    `json:"unit"`
	Subject     string    `json:"subject"`
	Values      []float64 `json:"values,omitempty"` // one per round, oldest first
	Median      float64   `json:"median"`           // of Values
	NA          string    `json:"na,omitempty"`     // why there are no values
	Failed      bool      `json:"failed,omitempty"` // NA is an error
}

// run makes all measurements. A measurement that fails is a result too.
func (p plan) run(ctx context.Context) ([]result, error) {
	dir, err := os.MkdirTemp("", "nostall-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	material := filepath.Join(dir, "certificates")
	entries := 0
	for _, m := range p.measurements {
		entries = max(entries, m.entries)
	}
	if entries > 0 {
		fmt.Fprintf(p.progress, "making %d certificates\n", entries)
	}
	if err := writeMaterial(material, entries); err != nil {
		return nil, err
	}
	var results []result
	for _, m := range p.measurements {
		fmt.Fprintf(p.progress, "%s\n", m.name)
		results = append(results, p.measure(ctx, m, material)...)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	return results, nil
}

// measure makes one measurement for each subject in turn.
func (p plan) measure(ctx context.Context, m measurement, material string) []result {
	t := &tally{measurement: m.name}
	for range p.rounds {
		for _, c := range p.subjects {
			switch {
			case m.issues && !c.issues:
				t.exclude(c.name, "it gets no certificates from a CA")
			case t.failed(c.name):
				// Not repeated in later rounds.
			default:
				samples, err := startChild(ctx, assignment{m.name, c.name, p.quick, material}, m.procs)
				if err != nil {
					t.fail(c.name, err)
				}
				for _, s := range samples {
					t.add(c.name, s)
				}
			}
		}
	}
	return t.finish()
}

// tally collects the results of one measurement.
type tally struct {
	measurement string
	results     []*result
}

// add records the value of one round.
func (t *tally) add(subject string, s sample) {
	i := slices.IndexFunc(t.results, func(r *result) bool { return r.Subject == subject && r.Metric == s.Metric })
	if i < 0 {
		i = len(t.results)
		t.results = append(t.results, &result{Measurement: t.measurement, Metric: s.Metric, Unit: s.Unit, Subject: subject})
	}
	if s.NA == "" {
		t.results[i].Values = append(t.results[i].Values, s.Value)
	} else {
		t.results[i].NA = s.NA
	}
}

// exclude records why a subject has no value in any metric.
func (t *tally) exclude(subject, why string) {
	if !slices.ContainsFunc(t.results, func(r *result) bool { return r.Subject == subject }) {
		t.results = append(t.results, &result{Measurement: t.measurement, Subject: subject, NA: why})
	}
}

// fail discards the subject's values of earlier rounds.
func (t *tally) fail(subject string, err error) {
	t.results = slices.DeleteFunc(t.results, func(r *result) bool { return r.Subject == subject })
	t.results = append(t.results, &result{Measurement: t.measurement, Subject: subject, NA: err.Error(), Failed: true})
}

func (t *tally) failed(subject string) bool {
	return slices.ContainsFunc(t.results, func(r *result) bool { return r.Subject == subject && r.Failed })
}

func (t *tally) finish() []result {
	results := make([]result, len(t.results))
	for i, r := range t.results {
		if len(r.Values) > 0 {
			r.Median, r.NA = median(r.Values), ""
		}
		results[i] = *r
	}
	return results
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	mid := len(sorted) / 2
	if len(sorted)%2 == 0 {
		return (sorted[mid-1] + sorted[mid]) / 2
	}
	return sorted[mid]
}
