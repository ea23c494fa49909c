package main

import (
	"io"
	"os"
	"strings"
	"testing"
	"unicode/utf8"
)

// The program that the example starts again is the test binary here. It must be the
// example then.
func TestMain(m *testing.M) {
	if os.Getenv(serverEnv) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// printed runs the example, and returns what it prints.
func printed(t *testing.T) string {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	all := make(chan string)
	go func() {
		data, _ := io.ReadAll(r)
		all <- string(data)
	}()
	stdout := os.Stdout
	os.Stdout = w
	err = run()
	os.Stdout = stdout
	_ = w.Close()
	out := <-all
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return out
}

func TestStory(t *testing.T) {
	out := printed(t)
	for line := range strings.Lines(out) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > width {
			t.Errorf("a line has %d columns, want at most %d: %s", n, width, line)
		}
	}
	told := strings.Join(strings.Fields(out), " ")
	for _, want := range []string{
		"issues a certificate for " + first,
		"east issues a certificate for " + second,
		"west waits: ",
		"west's status page: ",
		"east is killed",
		"west takes over, and issues a certificate for " + second,
		"west has issued and stored it",
		"failed: 0",
		"Everything was as it should be.",
	} {
		if !strings.Contains(told, want) {
			t.Errorf("%q is missing", want)
		}
	}
	if n := strings.Count(told, "1 order for it, 1 certificate, 1 account"); n != 2 {
		t.Errorf("%d hosts had one order each, want 2", n)
	}
	if t.Failed() {
		t.Logf("it printed\n%s", out)
	}
}
