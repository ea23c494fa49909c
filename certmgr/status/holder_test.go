package status_test

import (
	"strings"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/audit"
)

// Of a host for which another machine issues, the page and the JSON say which.
func TestHostNamesTheMachineThatIssuesForIt(t *testing.T) {
	const holder = "web-2 (pid <4711>)"
	h := certmgr.HostStatus{
		Host:         "issuing.example",
		KeyType:      "ECDSA",
		State:        certmgr.StateIssuing,
		StateSince:   now.Add(-4 * time.Second),
		Issuing:      true,
		IssuingSince: now.Add(-4 * time.Second),
		Stage:        audit.StageQueue,
		Holder:       holder,
	}
	s := &still{snap: certmgr.Snapshot{Time: now, CA: caURL, Hosts: []certmgr.HostStatus{h}}}
	if page := get(t, s, "/").Body.String(); !strings.Contains(page, "In flight: on web-2 (pid &lt;4711&gt;)") {
		t.Errorf("the page does not name the machine:\n%s", page)
	}
	data := get(t, s, "/?format=json").Body.String()
	if !strings.Contains(data, `"holder": "web-2 (pid \u003c4711\u003e)"`) {
		t.Errorf("the JSON does not name the machine:\n%s", data)
	}
	h.Holder = ""
	s.snap.Hosts[0] = h
	if data := get(t, s, "/?format=json").Body.String(); strings.Contains(data, "holder") {
		t.Errorf("the JSON names a machine:\n%s", data)
	}
}
