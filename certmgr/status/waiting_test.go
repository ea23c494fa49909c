package status_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/audit"
)

// Of a name that waits for DNS the page and the JSON say where it leads and when it is
// probed, also while a certificate is still served.
func TestNameThatWaitsForDNSSaysWhereItLeads(t *testing.T) {
	for state, then := range map[certmgr.HostState]string{
		certmgr.StateWaitingForDNS: "Visitors are refused. Next probe",
		certmgr.StateValid:         "The valid certificate is served. Next probe",
	} {
		h := failing(valid("moved.example"), state, 20*time.Minute, "")
		h.Failure.State, h.Failure.Stage, h.Failure.Attempts = certmgr.StateWaitingForDNS, audit.StagePreflight, 1
		h.Failure.Err = errors.New("moved.example leads to 192.0.2.7: connection refused")
		s := &still{snap: certmgr.Snapshot{Time: now, CA: caURL, Hosts: []certmgr.HostStatus{h}}}
		page := get(t, s, "/").Body.String()
		for _, want := range []string{"leads to 192.0.2.7", then, "probe: does it lead here?"} {
			if !strings.Contains(page, want) {
				t.Errorf("%s: the page does not say %q", state, want)
			}
		}
		if wait := `class="badge waiting"`; strings.Contains(page, wait) != (state == certmgr.StateWaitingForDNS) {
			t.Errorf("%s: %s", state, wait)
		}
		data := get(t, s, "/?format=json").Body.String()
		if !strings.Contains(data, `"state": "waiting_for_dns"`) || !strings.Contains(data, "leads to 192.0.2.7") {
			t.Errorf("%s: %s", state, data)
		}
		if state == certmgr.StateWaitingForDNS && !strings.Contains(get(t, s, "/?state=waiting_for_dns").Body.String(), "moved.example") {
			t.Error("not found by its state")
		}
	}
}
