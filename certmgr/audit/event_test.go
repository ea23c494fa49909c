package audit_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/text"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares got with a file in testdata.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (write it with go test -run %s -update)", err, t.Name())
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs; forms that others parse are stable, add to them only.\ngot:\n%s\nwant:\n%s", path, got, want)
	}
}

// everyEvent returns an event of each kind, the first one with every field set.
func everyEvent() []audit.Event {
	at := time.Date(2026, 11, 22, 3, 4, 5, 678_000_000, time.FixedZone("", 3600))
	cause := &acme.Error{StatusCode: 403, ProblemType: "urn:ietf:params:acme:error:unauthorized", Detail: "wrong key authorization"}
	failure := &certmgr.IssuanceError{Host: "www.example.com", Stage: audit.StageChallenge, CA: "https://ca.example/dir", Attempts: 3, RetryAt: at.Add(time.Hour),
		Err: fmt.Errorf("tls-alpn-01: %w", cause)}
	events := []audit.Event{{
		Kind: audit.IssuanceFailed, Host: "www.example.com", KeyType: "ECDSA", Decision: audit.Allowed, Rule: "Hosts: *.example.com",
		Result: audit.ResultBackoff, RemoteAddr: "192.0.2.1:4711", SNI: "WWW.example.com\n\x1b[31m", ALPN: "h2,http/1.1", Actor: "alice\n", Attempt: "abcdefghij",
		Stage: audit.StageChallenge, Reason: "handshake", CA: "https://ca.example/dir", OrderURL: "https://ca.example/order/1", Profile: "classic",
		Duration: 1500 * time.Millisecond, Serial: "00ff10", NotAfter: at.Add(90 * 24 * time.Hour), RetryAt: at.Add(time.Hour), Count: 3, Total: 9,
		ExplanationURL: "https://ca.example/why", Err: failure, Stack: "main.get /src/main.go:7 < main.main /src/main.go:3",
	}}
	for _, kind := range audit.Kinds() {
		events = append(events, audit.Event{Kind: kind, Host: "www.example.com"})
	}
	for i := range events {
		events[i].Seq, events[i].Time = uint64(i+1), at
	}
	return events
}

func TestFormsOfEventsAreStable(t *testing.T) {
	var texts, lines bytes.Buffer
	hook := audit.JSON(&lines)
	for _, e := range everyEvent() {
		fmt.Fprintln(&texts, e)
		hook(t.Context(), e)
	}
	golden(t, "events.txt", texts.Bytes())
	golden(t, "events.json", lines.Bytes())
	for line := range bytes.Lines(lines.Bytes()) {
		var v map[string]any
		if err := json.Unmarshal(line, &v); err != nil || v["kind"] == nil || v["level"] == nil {
			t.Errorf("not a line of JSON with kind and level: %q, %v", line, err)
		}
	}
	if strings.ContainsAny(texts.String(), "\x1b\r") || strings.Count(texts.String(), "\n") != len(everyEvent()) {
		t.Error("hostile text broke a line")
	}
}

// A log handler that resolves values gets the same pairs as the text form.
func TestEventIsALogValuer(t *testing.T) {
	var b bytes.Buffer
	slog.New(slog.NewTextHandler(&b, nil)).Info("x", "event", everyEvent()[0])
	for _, want := range []string{"event.kind=issuance_failed", "event.host=www.example.com", `event.rule="Hosts: *.example.com"`,
		"event.duration=1.5s", "event.problem=urn:ietf:params:acme:error:unauthorized"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is not in %s", want, &b)
		}
	}
}

// Dates that JSON cannot represent and unbounded texts of a CA lose no event.
func TestEventOfAHostileCAHasAForm(t *testing.T) {
	e := audit.Event{Kind: audit.CertificateIssued, NotAfter: time.Date(12345, 1, 1, 0, 0, 0, 0, time.UTC), Reason: strings.Repeat("\x00\xff", 100_000),
		Err: errors.New(strings.Repeat("<script>", 100_000))}
	data, err := json.Marshal(e)
	if err != nil || len(data) > 16*text.MaxError || len(e.String()) > 16*text.MaxError {
		t.Errorf("%d bytes of JSON, %d of text, %v", len(data), len(e.String()), err)
	}
}

// The set of kinds is closed: audit.Kinds lists each constant, and each has a
// comment of its own.
func TestEventKindsAreComplete(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "kind.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	declared := 0
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		declared++
		name := spec.Names[0].Name
		kind := audit.Kind(strings.Trim(spec.Values[0].(*ast.BasicLit).Value, `"`))
		if !slices.Contains(audit.Kinds(), kind) {
			t.Errorf("Kinds lacks %s", name)
		}
		if spec.Doc == nil || !strings.HasPrefix(spec.Doc.Text(), name+":") {
			t.Errorf("%s has no comment that begins with its name", name)
		}
		return true
	})
	if declared != len(audit.Kinds()) {
		t.Errorf("%d kinds are declared, Kinds has %d", declared, len(audit.Kinds()))
	}
}

func TestResultsAndStagesHaveNoTwins(t *testing.T) {
	results, stages := audit.Results(), audit.Stages()
	slices.Sort(results)
	if n := len(results); n != len(slices.Compact(results)) || results[0] == "" {
		t.Errorf("results: %q", results)
	}
	slices.Sort(stages)
	if n := len(stages); n != len(slices.Compact(stages)) || stages[0] == "" {
		t.Errorf("stages: %q", stages)
	}
}
