package soak

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
)

// report logs the tables of a run.
func (s *soak) report(t *testing.T) {
	t.Helper()
	var out strings.Builder
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(&out, "%v, %d hosts, %d kills\n", *soakFor, len(s.ca.names), s.killed)
	for i, svc := range s.services {
		fmt.Fprintf(w, "\n%s\nafter\tgeneration\tuptime\tgoroutines\tdescriptors\theap in MiB\tcertificates in service\t\n", svc.config.Name)
		for _, m := range svc.marks() {
			fmt.Fprintf(w, "%v\t%d\t%v\t%d\t%d\t%.1f\t%d\t\n", m.at.Round(time.Second), m.generation, m.Uptime.Round(time.Second),
				m.Goroutines, m.Descriptors, float64(m.Heap)/(1<<20), m.Metrics.Hosts[certmgr.StateValid])
		}
		v := s.visitors[i]
		fmt.Fprintf(w, "\nvisits\tserved\trefused or down\twrong\t\n\t%d\t%d\t%d\t\n", v.served, v.refused, len(v.wrong))
		left := leftovers(t, svc.config.Cache)
		fmt.Fprintf(w, "\nleft in the Cache\torders\tanswers\ttemporary files\t\n\t%d\t%d\t%d\t\n", left["orders"], left["answers"], left[temporaryFiles])
		svc.reportCounts(w)
		svc.reportLatencies(w)
	}
	s.reportCA(w)
	w.Flush()
	t.Log("\n" + out.String())
}

// marks returns samples to show: the first after each quarter of a run, and the
// last of each generation.
func (s *service) marks() (marks []sample) {
	quarter := time.Duration(0)
	for i, m := range s.samples {
		last := i == len(s.samples)-1 || s.samples[i+1].generation != m.generation
		if m.at >= quarter || last && s.started > 1 {
			marks = append(marks, m)
			for quarter <= m.at {
				quarter += *soakFor / 4
			}
		}
	}
	return marks
}

// comparable returns a sample of the first quarter of the run, and one of its
// last quarter at a time at which its process was as old, or older if it was
// never killed.
func (s *service) comparable() (early, late *sample) {
	for i := range s.samples {
		if m := &s.samples[i]; m.at <= *soakFor/4 && (early == nil || m.Uptime > early.Uptime) {
			early = m
		}
	}
	for i := range s.samples {
		if m := &s.samples[i]; early != nil && m.at >= *soakFor*3/4 && m.Uptime >= early.Uptime-lookEvery {
			late = m
		}
	}
	if late == nil {
		return nil, nil
	}
	return early, late
}

// sum adds a number of all generations.
func (s *service) sum(of func(v vitals) uint64) (n uint64) {
	for _, v := range s.past {
		n += of(v)
	}
	return n
}

func (s *service) reportCounts(w *tabwriter.Writer) {
	fmt.Fprintf(w, "\nin all generations\t\t\ncertificates issued\t%d\t\nevents dropped\t%d\t\n",
		s.sum(func(v vitals) uint64 { return v.Metrics.Issued }), s.sum(func(v vitals) uint64 { return v.Metrics.EventsDropped }))
	counts := make(map[string]uint64)
	for _, v := range s.past {
		for kind, n := range v.Metrics.Events {
			counts["event "+string(kind)] += n
		}
		for result, n := range v.Metrics.Handshakes {
			counts["handshake "+string(result)] += n
		}
		for _, c := range v.Metrics.CARequests {
			counts[fmt.Sprintf("request %s, status %d", c.Endpoint, c.Status)] += c.Count
		}
	}
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		if counts[name] > 0 {
			fmt.Fprintf(w, "%s\t%d\t\n", name, counts[name])
		}
	}
}

func (s *service) reportLatencies(w *tabwriter.Writer) {
	all := make(map[string]*latencies)
	for _, v := range s.past {
		for phase, l := range v.Latencies {
			if all[phase] == nil {
				all[phase] = &latencies{Buckets: make(map[int]uint64)}
			}
			all[phase].merge(l)
		}
	}
	fmt.Fprintf(w, "\nhot path beside\tcalls\tmedian\tp99\tp99.9\tmax\tfailed\t\n")
	for _, f := range floods {
		if l := all[f.name]; l != nil {
			fmt.Fprintf(w, "%s\t%d\t%v\t%v\t%v\t%v\t%d\t\n", f.name, l.count(), l.percentile(0.5), l.percentile(0.99), l.percentile(0.999), l.Max, l.Failed)
		}
	}
}

func (s *soak) reportCA(w *tabwriter.Writer) {
	orders := make(map[string]int)
	for _, o := range s.ca.Orders() {
		orders[o.Status]++
	}
	fmt.Fprintf(w, "\nthe CA\t\t\naccounts\t%d\t\ncertificates\t%d\t\n", len(s.ca.Accounts()), len(s.ca.Issued()))
	for _, status := range []string{acme.StatusPending, acme.StatusReady, acme.StatusProcessing, acme.StatusValid, acme.StatusInvalid} {
		fmt.Fprintf(w, "orders %s\t%d\t\n", status, orders[status])
	}
	for _, endpoint := range slices.Sorted(maps.Keys(s.ca.requests)) {
		fmt.Fprintf(w, "requests %s\t%d\t\n", endpoint, s.ca.requests[endpoint])
	}
}
