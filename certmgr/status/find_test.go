package status_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/status"
)

// sorts are the values of the parameter sort.
var sorts = []string{"state", "host", "expiry", "next", "refused"}

// decoded is the part of the JSON that these tests inspect.
type decoded struct {
	Matched, Page, Pages, Limit int
	Hosts                       []struct{ Host string }
	Events                      []struct{ Host string }
}

func ask(t testing.TB, s status.Source, query string) (d decoded, names []string) {
	t.Helper()
	w := get(t, s, "/?format=json&"+query)
	if err := json.Unmarshal(w.Body.Bytes(), &d); err != nil {
		t.Fatalf("%s: %v: %s", query, err, w.Body)
	}
	for _, h := range d.Hosts {
		names = append(names, strings.TrimSuffix(h.Host, ".example"))
	}
	return d, names
}

func TestFilterAndOrder(t *testing.T) {
	for _, test := range []struct{ query, want string }{
		{"", "expired paused rejected backoff failed issuing late renewing valid"},
		{"sort=state", "expired paused rejected backoff failed issuing late renewing valid"},
		{"sort=-state", "renewing valid late issuing failed backoff rejected paused expired"},
		{"sort=host", "backoff expired failed issuing late paused rejected renewing valid"},
		{"sort=-host", "valid renewing rejected paused late issuing failed expired backoff"},
		{"sort=expiry", "expired late renewing valid backoff failed issuing paused rejected"},
		{"sort=-expiry", "late renewing valid expired backoff failed issuing paused rejected"},
		{"sort=next", "expired failed backoff paused late rejected renewing valid issuing"},
		{"sort=-next", "renewing valid late rejected paused backoff failed expired issuing"},
		{"sort=refused", "backoff issuing expired failed late paused rejected renewing valid"},
		{"sort=-refused", "expired failed late paused rejected renewing valid issuing backoff"},
		{"q=i", "expired failed issuing renewing valid"},
		{"q=+ISSUING.ex+", "issuing"},
		{"q=no+such", ""},
		{"q=%25", ""},
		{"state=valid", "late renewing valid"},
		{"state=issuing", "issuing"},
		{"state=backing+off", "backoff"},
		{"state=paused", "paused"},
		{"state=rejected", "rejected"},
		{"state=expired", "expired"},
		{"state=failed", "failed"},
		{"state=attention", "expired paused rejected backoff failed late"},
		{"state=attention&q=ed", "expired paused rejected failed"},
		{"host=valid.example", "valid"},
		{"host=Valid.Example.", "valid"},
		{"host=valid", ""},
	} {
		_, names := ask(t, everyState(), test.query)
		want := strings.Fields(test.want)
		if !slices.Equal(names, want) {
			t.Errorf("%s: %v, want %v", test.query, names, want)
		}
	}
}

func TestKeyTypesOfAHostAreInOrder(t *testing.T) {
	a, b := valid("a.example"), valid("a.example")
	a.KeyType = "RSA"
	s := &still{snap: certmgr.Snapshot{Time: now, Hosts: []certmgr.HostStatus{a, b}}}
	for _, order := range sorts {
		_, w, _ := strings.Cut(get(t, s, "/?format=json&sort="+order).Body.String(), `"hosts": [`)
		if strings.Index(w, `"key_type": "ECDSA"`) > strings.Index(w, `"key_type": "RSA"`) {
			t.Errorf("sort=%s: RSA comes first", order)
		}
	}
}

func TestPagesHoldEachHostOnce(t *testing.T) {
	s := many(250)
	for _, order := range sorts {
		seen := make(map[string]int)
		for page := 1; page <= 3; page++ {
			d, names := ask(t, s, fmt.Sprintf("page=%d&sort=%s", page, order))
			if d.Page != page || d.Pages != 3 || d.Matched != 250 || d.Limit != 100 || len(names) != min(100, 250-100*(page-1)) {
				t.Errorf("page %d: %d hosts, %+v", page, len(names), d)
			}
			for _, name := range names {
				seen[name]++
			}
		}
		if len(seen) != 250 {
			t.Errorf("sort=%s: the pages hold %d hosts", order, len(seen))
		}
	}
}

func TestPageAfterTheLastIsTheLast(t *testing.T) {
	for query, want := range map[string]int{
		"page=99": 3, "page=1048576&limit=1000": 1, "page=7&q=nobody": 1, "page=9&limit=249": 2, "page=2&limit=250": 1,
	} {
		if d, _ := ask(t, many(250), query); d.Page != want || d.Pages != want {
			t.Errorf("%s: page %d of %d, want %d", query, d.Page, d.Pages, want)
		}
	}
}

func TestEventsOfOneHost(t *testing.T) {
	d, _ := ask(t, everyState(), "host=backoff.example")
	if len(d.Events) != 2 || d.Events[0].Host != "backoff.example" || d.Events[1].Host != "backoff.example" {
		t.Errorf("events: %v", d.Events)
	}
	if d, _ := ask(t, everyState(), "q=backoff"); len(d.Events) != 4 {
		t.Errorf("with a filter there are %d events, want all 4", len(d.Events))
	}
}
