package acmeclient

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nostall/nostall/certmgr/acmetest"
)

func TestCountsTellWhatBecameOfRequests(t *testing.T) {
	const order = EndpointOther
	tests := []struct {
		name  string
		fault func(s *site)
		want  []Count
	}{
		{"all went well", func(*site) {},
			[]Count{{EndpointDirectory, 200, 1}, {EndpointNewNonce, 200, 1}, {order, 200, 1}}},
		{"each retry after a 5xx counts", func(s *site) { s.Status(at(acmetest.Order), 503, nil, acmetest.Problem{}) },
			[]Count{{EndpointDirectory, 200, 1}, {EndpointNewNonce, 200, 1}, {order, 503, 1 + maxServerRetries}}},
		{"each try after a lost connection counts", func(s *site) { s.Drop(at(acmetest.Directory)) },
			[]Count{{EndpointDirectory, 0, 2}}},
		{"a time-out is no answer", func(s *site) { s.Stall(at(acmetest.Order)) },
			[]Count{{EndpointDirectory, 200, 1}, {EndpointNewNonce, 200, 2}, {order, 0, 2}}},
		{"an answer without its body has a status", func(s *site) { s.EndlessBody(at(acmetest.Directory)) },
			[]Count{{EndpointDirectory, 200, 1}}},
		{"a refusal counts as what it is", func(s *site) { s.Status(at(acmetest.NewNonce), 429, nil, acmetest.Problem{}) },
			[]Count{{EndpointDirectory, 200, 1}, {EndpointNewNonce, 429, 2}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t)
				ca := s.ca(s.Client())
				tt.fault(s)
				s.getOrder(t, ca)
				if got := ca.Counts(); !slices.Equal(got, tt.want) {
					t.Errorf("counted %v, want %v", got, tt.want)
				}
			})
		})
	}
}

func TestCountsLeaveOutAnswersFromMemory(t *testing.T) {
	s := newSite(t)
	ca := s.ca(s.Client())
	for range 3 {
		if err := s.discover(t, ca); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := ca.Counts(), []Count{{EndpointDirectory, 200, 1}}; !slices.Equal(got, want) {
		t.Errorf("counted %v, want %v", got, want)
	}
}

// A panic of the user's transport counts as a request without a response.
func TestCountsIncludeABrokenTransport(t *testing.T) {
	s := newSite(t)
	ca := s.ca(s.through(s.order, func(http.RoundTripper, *http.Request) (*http.Response, error) { panic("at the user's") }))
	if err := s.getOrder(t, ca); err == nil {
		t.Error("no error")
	}
	if got, want := ca.Counts(), (Count{EndpointOther, 0, 1}); !slices.Contains(got, want) {
		t.Errorf("counted %v, want %v among them", got, want)
	}
}

func TestCountsAreBoundedWhateverTheCAAnswers(t *testing.T) {
	var c counts
	c.add(EndpointOther, nil)
	for status := range 1000 {
		c.add(EndpointOther, &http.Response{StatusCode: status})
		c.add(EndpointNewOrder, &http.Response{StatusCode: status})
	}
	byStatus := make(map[Endpoint]map[int]uint64)
	var sum uint64
	for _, n := range c.all() {
		if byStatus[n.Endpoint] == nil {
			byStatus[n.Endpoint] = make(map[int]uint64)
		}
		byStatus[n.Endpoint][n.Status] = n.Requests
		sum += n.Requests
	}
	for e, statuses := range byStatus {
		if len(statuses) > maxStatuses+6 { // 0 and a class each
			t.Errorf("%s: %d statuses", e, len(statuses))
		}
	}
	if sum != 2001 {
		t.Errorf("counted %d requests, want 2001: none may be lost", sum)
	}
	if got := byStatus[EndpointOther]; got[0] != 501 || got[400] != 100 || got[429] != 0 {
		t.Errorf("0: %d, want 501; 400: %d, want its class of 100; 429: %d, want 0: it came too late to have a count of its own",
			got[0], got[400], got[429])
	}
}

func TestCountsAreInOrder(t *testing.T) {
	var c counts
	want := []Count{{EndpointDirectory, 0, 1}, {EndpointDirectory, 200, 1}, {EndpointNewOrder, 201, 1}, {EndpointNewOrder, 429, 1}}
	for _, n := range []Count{want[3], want[1], want[2], want[0]} {
		c.add(n.Endpoint, &http.Response{StatusCode: n.Status})
	}
	if got := c.all(); !slices.Equal(got, want) {
		t.Errorf("counts %v, want %v", got, want)
	}
}

func TestCountsAreSafeForConcurrentUse(t *testing.T) {
	fail := roundTrip(func(*http.Request) (*http.Response, error) { return nil, errors.New("no network") })
	ca := New(Config{DirectoryURL: "https://ca.test/directory", HTTPClient: &http.Client{Transport: fail}})
	tr := ca.Client(nil, "").HTTPClient.Transport.(*transport)
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("https://ca.test/%d", i), nil)
			if err != nil {
				t.Error(err)
				return
			}
			tr.exchange(req, forUnsigned, EndpointOther)
			ca.Counts()
		})
	}
	wg.Wait()
	if got, want := ca.Counts(), []Count{{EndpointOther, 0, 100}}; !slices.Equal(got, want) {
		t.Errorf("counted %v, want %v", got, want)
	}
}

// A call that was given up has been counted then.
func TestLateAnswerIsNotCountedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		ca := s.ca(s.through(s.order, deaf(func() { time.Sleep(time.Hour) })))
		if err := s.getOrder(t, ca); err == nil {
			t.Error("no error")
		}
		time.Sleep(2 * time.Hour)
		if got := ca.Counts(); got[len(got)-1] != (Count{EndpointOther, 0, 2}) {
			t.Errorf("counted %v, want two requests to the order, without an answer", got)
		}
	})
}
