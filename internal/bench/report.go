package main

import (
	"encoding/json"
	"os"
	"runtime"
	"runtime/debug"
	"time"
)

// report is the JSON form of a run.
type report struct {
	Started  time.Time `json:"started"`
	Go       string    `json:"go"`
	Platform string    `json:"platform"`
	CPUs     int       `json:"cpus"`
	Rounds   int       `json:"rounds"`
	Quick    bool      `json:"quick"` // the figures mean nothing

	Versions map[string]string `json:"versions"` // by subject
	Results  []result          `json:"results"`
}

func newReport(p plan, started time.Time, results []result) report {
	r := report{
		Started: started.UTC().Truncate(time.Second), Go: runtime.Version(),
		Platform: runtime.GOOS + "/" + runtime.GOARCH, CPUs: runtime.NumCPU(),
		Rounds: p.rounds, Quick: p.quick, Versions: make(map[string]string), Results: results,
	}
	for _, c := range p.subjects {
		if v := version(c.module); v != "" {
			r.Versions[c.name] = v
		}
	}
	return r
}

// version returns the version of a module in this program, or "" if it is
// unknown.
func version(module string) string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, dep := range append(info.Deps, &info.Main) {
		if dep.Path == module {
			return dep.Version
		}
	}
	return ""
}

func (r report) writeFile(path string) error {
	data, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(data, '\n'), 0o666)
}
