package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// The command starts itself as a child; in a test that is this program.
func TestMain(m *testing.M) {
	if spec := os.Getenv(childVariable); spec != "" {
		os.Exit(child(spec, os.Stdout))
	}
	os.Exit(m.Run())
}

// TestEveryMeasurementRuns runs each with every subject that supports it. The
// figures mean nothing here.
func TestEveryMeasurementRuns(t *testing.T) {
	for _, m := range measurements(quickSizes()) {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "report.json")
			var stdout, stderr strings.Builder
			args := []string{"-quick", "-rounds", "1", "-run", "^" + m.name + "$", "-json", file}
			if err := command(t.Context(), args, &stdout, &stderr); err != nil {
				t.Fatalf("%v\n%s%s", err, &stderr, &stdout)
			}
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var r report
			if err := json.Unmarshal(data, &r); err != nil {
				t.Fatal(err)
			}
			for _, c := range contestants() {
				var values, reasons int
				for _, result := range r.Results {
					if result.Subject == c.name {
						values += len(result.Values)
						reasons += min(len(result.NA), 1)
					}
				}
				if measured := c.issues || !m.issues; measured != (values > 0) || values+reasons == 0 {
					t.Errorf("%s has %d values and %d reasons for none\n%s", c.name, values, reasons, &stdout)
				}
				if !strings.Contains(stdout.String(), c.name) {
					t.Errorf("the table lacks %s:\n%s", c.name, &stdout)
				}
			}
		})
	}
}

func TestFlagsThatMakeNoSense(t *testing.T) {
	for _, args := range [][]string{
		{"-run", "nothing-is-called-so"}, {"-run", "("}, {"-subjects", "certmgr,nobody"}, {"-rounds", "0"}, {"surplus"},
	} {
		var stdout, stderr strings.Builder
		if err := command(t.Context(), args, &stdout, &stderr); err == nil {
			t.Errorf("%q: no error\n%s", args, &stdout)
		}
	}
}

func TestFailureOfOneSubjectIsShown(t *testing.T) {
	y := &tally{measurement: "m"}
	y.add("certmgr", sample{Metric: "time", Unit: "ns/op", Value: 3})
	y.add("autocert", sample{Metric: "time", Unit: "ns/op", Value: 9})
	y.add("certmgr", sample{Metric: "time", Unit: "ns/op", Value: 2})
	y.fail("autocert", os.ErrDeadlineExceeded)
	y.exclude("static", "it cannot")
	y.exclude("static", "it cannot")
	var out strings.Builder
	table := &table{subjects: []string{"certmgr", "autocert", "static"}, base: "certmgr", results: y.finish()}
	if err := table.write(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"2.5", "failed [1]", "n/a [2]", "[1] autocert: i/o timeout\n", "[2] static: it cannot\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, &out)
		}
	}
	if strings.Count(out.String(), "\n") != 5 {
		t.Errorf("want a head, one line, two notes and the legend:\n%s", &out)
	}
}

func TestTableShowsRatios(t *testing.T) {
	results := []result{
		{Measurement: "m", Metric: "time", Unit: "ns/op", Subject: "certmgr", Values: []float64{80}, Median: 80},
		{Measurement: "m", Metric: "time", Unit: "ns/op", Subject: "autocert", Values: []float64{1000}, Median: 1000},
	}
	for base, want := range map[string]string{"certmgr": "80  1000 (12.5)", "autocert": "80 (0.08)  1000"} {
		var out strings.Builder
		table := &table{subjects: []string{"certmgr", "autocert"}, base: base, results: results}
		if err := table.write(&out); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(strings.Join(strings.Fields(out.String()), " "), strings.Join(strings.Fields(want), " ")) {
			t.Errorf("to %s: want %q in\n%s", base, want, &out)
		}
	}
}

func TestFigure(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0", 1: "1", 2.5: "2.5", 1.234: "1.23", 12.34: "12.3", 99.96: "100", 123.4: "123", 7468: "7468", 0.0567: "0.0567",
		0.00001: "0", 150: "150", 100: "100",
	} {
		if got := figure(v); got != want {
			t.Errorf("figure(%v) = %s, want %s", v, got, want)
		}
	}
}

// TestHistogramIsExactToA32nd compares with the sorted values.
func TestHistogramIsExactToA32nd(t *testing.T) {
	var h histogram
	var all []time.Duration
	for i := range 10_000 {
		d := time.Duration(i*i*i)*time.Nanosecond/10 + time.Duration(i)
		all = append(all, d)
		h.add(d)
	}
	slices.Sort(all)
	for _, p := range []int64{0, 1, 50, 99, 100} {
		want := float64(all[int64(len(all)-1)*p/100])
		if got := h.percentile(p); got > want || got < want*31/32 {
			t.Errorf("percentile %d: %v, want at most a 32nd below %v", p, got, want)
		}
	}
	for _, d := range []time.Duration{-1, 0, 1<<63 - 1} {
		h.add(d) // stays within its buckets
	}
}
