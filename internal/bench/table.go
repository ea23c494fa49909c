package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// table writes results for humans: a row for each metric and a column for each
// subject, with the ratio to the subject base.
type table struct {
	subjects []string
	base     string
	results  []result

	notes []string // why cells are empty, without duplicates
}

func (t *table) write(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight|tabwriter.DiscardEmptyColumns)
	fmt.Fprintf(tw, "measurement\tmetric\t%s\t\n", strings.Join(t.subjects, "\t"))
	last := ""
	for _, row := range t.rows() {
		name := row.Measurement
		if name == last {
			name = ""
		}
		last = row.Measurement
		fmt.Fprintf(tw, "%s\t%s\t", name, label(row))
		base := t.find(row, t.base)
		for _, subject := range t.subjects {
			fmt.Fprintf(tw, "%s\t", t.cell(t.find(row, subject), base))
		}
		fmt.Fprintln(tw)
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	for i, note := range t.notes {
		if _, err := fmt.Fprintf(w, "[%d] %s\n", i+1, note); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(w, "Medians; in brackets how many times the value of %s.\n", t.base)
	return err
}

// rows returns one result for each row. A measurement that failed for all
// subjects has one row without a metric.
func (t *table) rows() []result {
	var rows []result
	for i, r := range t.results {
		same := func(other result) bool { return other.Measurement == r.Measurement && other.Metric == r.Metric }
		named := func(other result) bool { return other.Measurement == r.Measurement && other.Metric != "" }
		if slices.ContainsFunc(t.results[:i], same) || r.Metric == "" && slices.ContainsFunc(t.results, named) {
			continue
		}
		rows = append(rows, r)
	}
	return rows
}

// label returns metric and unit.
func label(r result) string {
	if r.Metric == "" {
		return "-"
	}
	return r.Metric + " " + r.Unit
}

// find returns the result of a subject for a row, or nil.
func (t *table) find(row result, subject string) *result {
	for i, r := range t.results {
		if r.Subject == subject && r.Measurement == row.Measurement && (r.Metric == row.Metric || r.Metric == "") {
			return &t.results[i]
		}
	}
	return nil
}

func (t *table) cell(r, base *result) string {
	switch {
	case r == nil:
		return "-"
	case len(r.Values) > 0:
		text := figure(r.Median)
		if base != nil && r.Subject != base.Subject && len(base.Values) > 0 && base.Median != 0 {
			text += " (" + figure(r.Median/base.Median) + ")"
		}
		return text
	case r.Failed:
		return "failed " + t.note(r)
	default:
		return "n/a " + t.note(r)
	}
}

// note returns the reference to a note.
func (t *table) note(r *result) string {
	text := r.Subject + ": " + r.NA
	i := slices.Index(t.notes, text)
	if i < 0 {
		i = len(t.notes)
		t.notes = append(t.notes, text)
	}
	return "[" + strconv.Itoa(i+1) + "]"
}

// figure returns v with three significant digits, or more if its integer part
// has more.
func figure(v float64) string {
	digits := 0
	if abs := math.Abs(v); abs > 0 && abs < 100 {
		digits = 2 - int(math.Floor(math.Log10(abs)))
	}
	text := strconv.FormatFloat(v, 'f', min(digits, 4), 64)
	if strings.Contains(text, ".") {
		text = strings.TrimRight(strings.TrimRight(text, "0"), ".")
	}
	return text
}
