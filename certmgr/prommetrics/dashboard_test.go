package prommetrics

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// dashboard is the part of grafana.json that the tests inspect.
type dashboard struct {
	ID         *int `json:"id"` // null, or an import fails
	UID, Title string
	Panels     []panel
	Templating struct{ List []variable }
}

type panel struct {
	ID                       int
	Type, Title, Description string
	Datasource               datasource
	GridPos                  struct{ X, Y, W, H int }
	FieldConfig              struct{ Defaults struct{ Unit string } }
	Targets                  []struct {
		Expr       string
		Datasource datasource
	}
}

type datasource struct{ Type, UID string }

type variable struct {
	Name, Type string
	Definition string
	AllValue   string
}

func readDashboard(t *testing.T) dashboard {
	t.Helper()
	var d dashboard
	if err := json.Unmarshal([]byte(readFile(t, "grafana.json")), &d); err != nil {
		t.Fatal(err)
	}
	if len(d.Panels) == 0 {
		t.Fatal("grafana.json has no panels")
	}
	return d
}

// expressions returns all queries, with values for Grafana's variables.
func (d dashboard) expressions() []string {
	values := strings.NewReplacer("$__rate_interval", "5m", "$__range", "24h", "$job", ".*", "$instance", ".*", "$manager", ".*")
	var all []string
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			all = append(all, values.Replace(target.Expr))
		}
	}
	return all
}

// Wrapped in rules, since promtool cannot check a single expression.
func TestDashboardExpressionsAreValid(t *testing.T) {
	var rules strings.Builder
	rules.WriteString("groups:\n- name: dashboard\n  rules:\n")
	for i, expr := range readDashboard(t).expressions() {
		if strings.Contains(expr, "$") {
			t.Errorf("a variable without a value: %s", expr)
		}
		quoted, err := json.Marshal(expr) // a JSON string is a YAML string
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&rules, "  - record: dashboard:expression:%d\n    expr: %s\n", i, quoted)
	}
	path := filepath.Join(t.TempDir(), "rules.yml")
	if err := os.WriteFile(path, []byte(rules.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := promtool(t, "check", "rules", path); err != nil {
		t.Errorf("promtool check rules: %v\n%s\n%s", err, out, &rules)
	}
}

func TestDashboardUsesWhatIsExported(t *testing.T) {
	d := readDashboard(t)
	for _, expr := range d.expressions() {
		checkExpressions(t, expr, expr)
	}
	for _, v := range d.Templating.List {
		checkExpressions(t, "variable "+v.Name, v.Definition)
	}
}

func TestDashboardShowsEveryMetric(t *testing.T) {
	shown := strings.Join(readDashboard(t).expressions(), "\n")
	for _, name := range metricNames(t) {
		if !strings.Contains(shown, name+"{") && !strings.Contains(shown, name+"_bucket{") {
			t.Errorf("no panel shows %s", name)
		}
	}
}

func TestDashboardCanBeImportedAnywhere(t *testing.T) {
	d := readDashboard(t)
	if d.ID != nil || d.UID == "" || d.Title == "" {
		t.Errorf("id %v, want null; uid %q and title %q must not be empty", d.ID, d.UID, d.Title)
	}
	variables := make(map[string]variable)
	for _, v := range d.Templating.List {
		variables[v.Name] = v
	}
	if variables["datasource"].Type != "datasource" {
		t.Error("the data source cannot be chosen")
	}
	for _, name := range []string{"job", "instance", "manager"} {
		// With one Manager the label is missing, and only this pattern matches.
		if v := variables[name]; v.Type != "query" || v.AllValue != ".*" {
			t.Errorf("variable %s is a %q with %q for all, want a query with .*", name, v.Type, v.AllValue)
		}
	}
	want := datasource{"prometheus", "${datasource}"}
	ids := make(map[int]bool)
	for _, p := range d.Panels {
		if ids[p.ID] {
			t.Errorf("two panels have the id %d", p.ID)
		}
		ids[p.ID] = true
		if p.Type == "row" {
			continue
		}
		if p.Title == "" || p.Description == "" || p.FieldConfig.Defaults.Unit == "" || p.Datasource != want || len(p.Targets) == 0 {
			t.Errorf("panel %d (%s) lacks a title, a description, a unit, the chosen data source or a query", p.ID, p.Title)
		}
		for _, target := range p.Targets {
			if target.Datasource != want {
				t.Errorf("a query of %s has the data source %v", p.Title, target.Datasource)
			}
			const selection = `{job=~"$job",instance=~"$instance",manager=~"$manager"`
			if n, m := strings.Count(target.Expr, "certmgr_"), strings.Count(target.Expr, selection); n != m {
				t.Errorf("%s: %d of %d metrics heed the variables: %s", p.Title, m, n, target.Expr)
			}
		}
	}
}

func TestPanelsDoNotOverlap(t *testing.T) {
	taken := make(map[[2]int]string)
	for _, p := range readDashboard(t).Panels {
		g := p.GridPos
		if g.X < 0 || g.W <= 0 || g.X+g.W > 24 || g.H <= 0 {
			t.Errorf("%s is at %+v, outside of Grafana's 24 columns", p.Title, g)
		}
		for x := g.X; x < g.X+g.W; x++ {
			for y := g.Y; y < g.Y+g.H; y++ {
				if other, ok := taken[[2]int{x, y}]; ok {
					t.Fatalf("%s lies on %s", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
	}
}
