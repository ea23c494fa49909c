package acmetest

import (
	"net/http"
	"strconv"
)

// usualOrdersPerPage is the default length of a page of the orders list.
const usualOrdersPerPage = 100

// listOrders returns an account's orders, oldest first, page by page (RFC 8555,
// section 7.1.2.1), without invalid ones. A page's cursor is the number of the
// last order before it.
func (s *Server) listOrders(x *exchange) (*reply, *Problem) {
	if problem := x.requirePostAsGet(); problem != nil {
		return nil, problem
	}
	after := 0
	if cursor := x.r.URL.Query().Get("cursor"); cursor != "" {
		var err error
		if after, err = strconv.Atoi(cursor); err != nil || after < 0 {
			return nil, problemf("malformed", "the cursor %q is none of this list", cursor)
		}
	}
	perPage := s.OrdersPerPage
	if perPage <= 0 {
		perPage = usualOrdersPerPage
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if numbered(s.state.accounts, x.id) == nil {
		return nil, notFound("there is no account %d", x.id)
	}
	if x.account.id != x.id {
		return nil, problemf("unauthorized", "this is the list of another account")
	}
	urls := []string{} // not null in JSON
	next, last := "", after
	now := s.now()
	for _, o := range s.state.orders {
		if o.account != x.account || o.id <= after || o.current(now) == invalid {
			continue
		}
		if len(urls) == perPage {
			next = s.url(pathOrdersList, x.id) + "?cursor=" + strconv.Itoa(last)
			break
		}
		urls, last = append(urls, s.url(pathOrder, o.id)), o.id
	}
	return &reply{status: http.StatusOK, next: next, json: map[string]any{"orders": urls}}, nil
}
