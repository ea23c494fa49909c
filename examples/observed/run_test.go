package main

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/examples/internal/process"
)

func TestMain(m *testing.M) { process.Main(m, main) }

// What the program promises to show is there: the status page, the metrics, and
// the events in its file and in its log.
func TestServerShowsWhatItDoes(t *testing.T) {
	ca := acmetest.NewServer()
	defer ca.Close()
	stall := ca.Stall(acmetest.Match{Endpoint: acmetest.NewOrder}) // until the ports are known
	s := process.Start(t, ca, "-http", "127.0.0.1:0", "-https", "127.0.0.1:0", "-internal", "127.0.0.1:0")
	target := acmetest.Target{HTTPAddr: s.Listening(t), TLSAddr: s.Listening(t)}
	internal := s.Listening(t)
	ca.Resolve("example.com", target)
	ca.Resolve("www.example.com", target)
	stall.Lift()

	s.Visit(t, "example.com", "https://example.com/").Body.Close()
	for path, want := range map[string]string{
		"/debug/certs/": "example.com",
		"/metrics":      "\ncertmgr_handshakes_total{result=\"served\"} ",
	} {
		if page := get(t, "http://"+internal+path); !bytes.Contains(page, []byte(want)) {
			t.Errorf("%s does not contain %q:\n%s", path, want, page)
		}
	}
	out, err := s.Terminate(t)
	if err != nil || !bytes.Contains([]byte(out), []byte("certmgr: certificate issued")) {
		t.Errorf("after SIGTERM: error %v, output:\n%s", err, out)
	}
	events, err := os.ReadFile(filepath.Join(s.Dir, "events.json"))
	for _, kind := range []string{"certificate_issued", "manager_closed"} { // the last one is that of Close
		if err != nil || !bytes.Contains(events, []byte(`"kind":"`+kind+`"`)) {
			t.Errorf("events.json has no %s: error %v, content:\n%s", kind, err, events)
		}
	}
}

func get(t *testing.T, url string) []byte {
	t.Helper()
	res, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, error %v", url, res.Status, err)
	}
	return body
}
