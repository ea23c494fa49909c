package status_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/audit"
)

var update = flag.Bool("update", false, "write the golden files anew")

// The JSON form is stable: programs read it.
func TestJSONIsStable(t *testing.T) {
	s := everyState()
	s.snap.CAUnavailable, s.snap.CAFailure = now.Add(5*time.Minute), errors.New("503: down")
	got := get(t, s, "/?format=json").Body.Bytes()
	path := filepath.Join("testdata", "status.json")
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("the JSON form changed (write it with go test -run %s -update):\n%s", t.Name(), got)
	}
}

// Members that a program iterates over are lists or objects, never null.
func TestEmptyJSONHasNoNull(t *testing.T) {
	s := &still{snap: certmgr.Snapshot{Time: now}, nums: certmgr.Metrics{
		Handshakes: map[audit.Result]uint64{}, Failed: map[audit.Stage]uint64{}}}
	for _, query := range []string{"", "&host=a.example", "&q=a"} {
		if body := get(t, s, "/?format=json"+query).Body.Bytes(); bytes.Contains(body, []byte("null")) || !json.Valid(body) {
			t.Errorf("%s: %s", query, body)
		}
	}
}

// A CA may date a certificate to a year that JSON cannot represent.
func TestTimesThatJSONCannotHoldAreLeftOut(t *testing.T) {
	h := valid("a.example")
	h.NotAfter = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)
	s := &still{snap: certmgr.Snapshot{Time: now, Hosts: []certmgr.HostStatus{h}}}
	for _, target := range []string{"/", "/?format=json"} {
		if w := get(t, s, target); w.Code != 200 {
			t.Errorf("%s: %d %s", target, w.Code, w.Body)
		}
	}
}
