package acmetest_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// link returns the target of a Link header with a relation, or "".
func (a answer) link(rel string) string {
	for _, value := range a.header.Values("Link") {
		target, params, _ := strings.Cut(value, ";")
		if strings.TrimSpace(params) == `rel="`+rel+`"` {
			return strings.Trim(target, "<>")
		}
	}
	return ""
}

// orders returns the URLs of a list of orders.
func (a answer) orders() []string {
	urls := []string{}
	list, _ := a.object["orders"].([]any)
	for _, u := range list {
		urls = append(urls, u.(string))
	}
	return urls
}

func TestOrdersList(t *testing.T) {
	s := acmetest.NewUnstartedServer()
	s.OrdersPerPage = 2
	s.StartMemory()
	defer s.Close()
	c, other := newRawClient(t, s), newRawClient(t, s)
	c.register()
	other.register()
	list := c.get(c.kid).str("orders")
	if a := c.get(list); a.status != 200 || a.object["orders"] == nil || len(a.orders()) != 0 || a.link("next") != "" {
		t.Fatalf("an empty list: %d %s", a.status, a.body)
	}

	var want []string
	for _, host := range []string{"a.example.com", "b.example.com", "invalid.example.com", "c.example.com", "d.example.com"} {
		other.order(host)
		u, o := c.order(host)
		if host == "invalid.example.com" {
			c.do(post{url: o.authorizations()[0], payload: `{"status":"deactivated"}`})
			continue
		}
		want = append(want, u)
	}
	first := c.get(list)
	if got := first.orders(); !slices.Equal(got, want[:2]) || first.link("next") == "" {
		t.Fatalf("the first page is %v with next %q, want %v", got, first.link("next"), want[:2])
	}
	second := c.get(first.link("next"))
	if got := second.orders(); !slices.Equal(got, want[2:]) || second.link("next") != "" {
		t.Errorf("the second page is %v with next %q, want %v", got, second.link("next"), want[2:])
	}
	// The page is no longer full: the cursor still leads to the orders after
	// it.
	c.do(post{url: c.get(want[0]).authorizations()[0], payload: `{"status":"deactivated"}`})
	if got := c.get(first.link("next")).orders(); !slices.Equal(got, want[2:]) {
		t.Errorf("the second page is %v after an order of the first became invalid, want %v", got, want[2:])
	}
	if s.Count(acmetest.OrdersList) != 4 {
		t.Errorf("%d requests for lists of orders, want 4\n%v", s.Count(acmetest.OrdersList), s)
	}

	for _, test := range []struct {
		name   string
		url    string
		client *rawClient
		p      post
		status int
		typ    string
	}{
		{"foreign list", list, other, post{}, 403, "unauthorized"},
		{"list of nobody", c.endpoint("/orders/3"), c, post{}, 404, "malformed"},
		{"with a payload", list, c, post{payload: "{}"}, 400, "malformed"},
		{"bad cursor", list + "?cursor=x", c, post{}, 400, "malformed"},
		{"negative cursor", list + "?cursor=-1", c, post{}, 400, "malformed"},
		{"url without the query", list + "?cursor=1", c, post{header: map[string]any{"url": list}}, 403, "unauthorized"},
	} {
		test.p.url = test.url
		if a := test.client.do(test.p); a.status != test.status || a.problem() != test.typ {
			t.Errorf("%s: %d %s, want %d %s", test.name, a.status, a.body, test.status, test.typ)
		}
	}
}
