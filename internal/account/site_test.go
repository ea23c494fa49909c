package account

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/acmeclient"
	"github.com/nostall/nostall/internal/bundle"
	"github.com/nostall/nostall/internal/flight"
)

// site is a CA and a store, and the machines that share them.
type site struct {
	t        *testing.T
	ca       *acmetest.Server
	store    *entries
	machines []*machine
	m        *machine // the one that most tests need
	events   recorder
}

// atSite runs f in a bubble of virtual time with a new site.
func atSite(t *testing.T, f func(t *testing.T, s *site)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &site{t: t, ca: acmetest.NewMemoryServer(), store: new(entries)}
		defer s.close()
		s.m = s.boot(s.setup())
		f(t, s)
	})
}

func (s *site) close() {
	if s.t.Failed() {
		s.t.Log(s.ca)
		s.t.Log(&s.events)
	}
	for _, m := range s.machines {
		m.close(s.t)
	}
	s.ca.Close()
}

// setup is what a machine is made of.
type setup struct {
	store     Store // nil: it has none
	lock      Lock  // nil: there is none
	transport http.RoundTripper
	key       crypto.Signer
	email     string
	binding   *acme.ExternalAccountBinding
	prompt    func(string) bool
}

// setup is that of a machine to which nothing happens.
func (s *site) setup() setup {
	return setup{store: s.store, transport: s.ca.Client().Transport, prompt: acme.AcceptTOS}
}

// machine is a process with a Registrar.
type machine struct {
	*Registrar
	tasks    *flight.Tasks
	callouts []*flight.Callouts
}

// boot starts a machine. It is closed with the site.
func (s *site) boot(set setup) *machine {
	m := &machine{tasks: flight.NewTasks()}
	m.Registrar = New(Config{
		CA:        acmeclient.New(acmeclient.Config{DirectoryURL: s.ca.URL, HTTPClient: &http.Client{Transport: set.transport}}),
		Directory: s.ca.URL,
		Key:       set.key,
		Email:     set.email,
		Binding:   set.binding,
		Prompt:    set.prompt,
		Store:     set.store,
		Lock:      set.lock,
		Emit:      s.events.emit,
		Tasks:     m.tasks,
		Waiters:   flight.NewWaiters(1000, "waiters"),
		Callout: func(name string, limit int) *flight.Callouts {
			c := flight.NewCallouts(name, limit)
			m.callouts = append(m.callouts, c)
			return c
		},
	})
	s.machines = append(s.machines, m)
	return m
}

func (m *machine) close(t *testing.T) {
	t.Helper()
	m.tasks.Close()
	err := m.tasks.Wait(context.Background())
	for _, c := range m.callouts {
		err = errors.Join(err, c.Wait(context.Background()))
	}
	if err != nil {
		t.Errorf("closing a machine: %v", err)
	}
}

// restart closes the machine and puts another one in its place.
func (s *site) restart(set setup) {
	s.t.Helper()
	s.m.close(s.t)
	s.m = s.boot(set)
}

// restartThrough is restart for a machine that sends by rt.
func (s *site) restartThrough(rt http.RoundTripper) {
	s.t.Helper()
	set := s.setup()
	set.transport = rt
	s.restart(set)
}

// use signs a request as the account, as an issuance does: once, and once more
// if the account has another key by now.
func (m *machine) use(ctx context.Context) error {
	for again := false; ; again = true {
		acc, err := m.Get(ctx)
		if err != nil {
			return err
		}
		trace := new(acmeclient.Trace)
		_, err = m.client(acc).AuthorizeOrder(acmeclient.WithTrace(ctx, trace), acme.DomainIDs("a.example.com"))
		if err == nil || again || !m.Outdated(ctx, acc, trace, err) {
			return acmeclient.Cause(err)
		}
	}
}

func (s *site) mustUse() {
	s.t.Helper()
	if err := s.m.use(s.t.Context()); err != nil {
		s.t.Fatalf("the account cannot be used: %v", err)
	}
}

func (s *site) mustChange() {
	s.t.Helper()
	if err := s.m.ChangeKey(s.t.Context()); err != nil {
		s.t.Fatalf("ChangeKey: %v", err)
	}
}

// account returns the only account of the CA.
func (s *site) account() acmetest.Account {
	s.t.Helper()
	synctest.Wait()
	accounts := s.ca.Accounts()
	if len(accounts) != 1 {
		s.t.Fatalf("%d accounts, want 1", len(accounts))
	}
	return accounts[0]
}

// wantChanged checks that the account is still the one that it was, with
// another key or with the same one.
func (s *site) wantChanged(old acmetest.Account, changed bool) {
	s.t.Helper()
	if now := s.account(); now.URL != old.URL || (now.Thumbprint != old.Thumbprint) != changed {
		s.t.Errorf("the account was %v and is %v; want another key: %v", old, now, changed)
	}
}

// wantSettled checks that the store has the account's key in its place and
// nothing else.
func (s *site) wantSettled() {
	s.t.Helper()
	acc := s.account()
	if got := s.keyIn(currentEntry); got != acc.Thumbprint {
		s.t.Errorf("the store has the key %q, the CA %q", got, acc.Thumbprint)
	}
	if s.keyIn(nextEntry) != "" {
		s.t.Error("the entry of the next key is still there")
	}
}

// keyIn returns the thumbprint of an entry's key, or "" if there is none.
func (s *site) keyIn(name string) string {
	s.t.Helper()
	data := s.store.data(name)
	if data == nil {
		return ""
	}
	key, _, err := bundle.DecodeKey(data)
	if err != nil {
		s.t.Fatal(err)
	}
	return thumbprint(s.t, key)
}

func thumbprint(t *testing.T, key crypto.Signer) string {
	t.Helper()
	print, err := acme.JWKThumbprint(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return print
}

func newKey(t *testing.T) crypto.Signer {
	t.Helper()
	key, err := bundle.GenerateKey(bundle.P256)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// encoded returns the entry of a key.
func encoded(t *testing.T, key crypto.Signer) []byte {
	t.Helper()
	var buf bytes.Buffer
	if err := bundle.EncodeKey(&buf, key); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// entries is a Store in memory that heeds its contexts. onGet and onPut are
// asked first.
type entries struct {
	memoryStore
	hooks        sync.Mutex
	onGet, onPut func(name string) error
}

func (e *entries) hook(onGet, onPut func(name string) error) {
	e.hooks.Lock()
	defer e.hooks.Unlock()
	e.onGet, e.onPut = onGet, onPut
}

func (e *entries) Get(ctx context.Context, name string) ([]byte, error) {
	e.hooks.Lock()
	f := e.onGet
	e.hooks.Unlock()
	if f != nil {
		if err := f(name); err != nil {
			return nil, err
		}
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return e.memoryStore.Get(ctx, name)
}

func (e *entries) Put(ctx context.Context, name string, data []byte) error {
	e.hooks.Lock()
	f := e.onPut
	e.hooks.Unlock()
	if f != nil {
		if err := f(name); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return e.set(name, data)
}

// data returns an entry, or nil if there is none. Like set and clear, it
// bypasses the hooks.
func (e *entries) data(name string) []byte {
	data, _ := e.memoryStore.Get(context.Background(), name)
	return data
}

func (e *entries) set(name string, data []byte) error {
	return e.memoryStore.Put(context.Background(), name, data)
}

func (e *entries) clear(names ...string) {
	for _, name := range names {
		e.Delete(context.Background(), name)
	}
}

var errDisk = errors.New("disk on fire")

// failing returns a hook that fails for some entries.
func failing(names ...string) func(string) error {
	return func(name string) error {
		if slices.Contains(names, name) {
			return errDisk
		}
		return nil
	}
}

// recorder keeps events.
type recorder struct {
	mu     sync.Mutex
	events []audit.Event
}

func (r *recorder) emit(e audit.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
}

// of returns the events of a kind so far, oldest first.
func (r *recorder) of(kind audit.Kind) []audit.Event {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(r.events), func(e audit.Event) bool { return e.Kind != kind })
}

func (r *recorder) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var b strings.Builder
	for _, e := range r.events {
		b.WriteString(e.String() + "\n")
	}
	return b.String()
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// answer is a response to r.
func answer(r *http.Request, status int, contentType, body string) *http.Response {
	return &http.Response{
		StatusCode: status,
		Status:     fmt.Sprint(status, " ", http.StatusText(status)),
		Proto:      "HTTP/1.1",
		ProtoMajor: 1,
		ProtoMinor: 1,
		Header:     http.Header{"Content-Type": {contentType}},
		Body:       io.NopCloser(strings.NewReader(body)),
		Request:    r,
	}
}

// problem is an answer with a problem of the CA's.
func problem(r *http.Request, status int, kind string) *http.Response {
	return answer(r, status, "application/problem+json", `{"type":"`+acmeProblem+kind+`","detail":"no"}`)
}
