package certmgr_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/cache"
	"github.com/nostall/nostall/internal/text"
)

// The invariants of this package, and the tests that fail when one is broken.
// Most run in a bubble of virtual time, which also fails if a goroutine is left.
//
//  1. No lock is held across I/O or a callback: TestCallbacksMayReenter,
//     TestHungCallbacksOfOneHostHarmNoOther.
//  2. One issuance per host and key type, detached from its handshake:
//     TestOneOf2000HandshakesWaits, TestIssuanceOutlivesItsHandshake.
//  3. Fail fast, with the real reason: TestOneOf2000HandshakesWaits,
//     TestBackoffTellsTheReason, TestCertificateThatTurnsUpInTheCacheIsFound.
//  4. One host never slows another: TestHungCallbacksOfOneHostHarmNoOther,
//     TestFailingHostsHoldAQuarterOfTheSlots, TestSlotsGoByPriority.
//  5. Explicit allowlist, and a cap on what strangers make grow:
//     TestHostThatIsNotAllowedCostsNothing, TestStrangersInFlightAreBounded,
//     TestStrangersInMemoryAreBounded.
//  6. Nothing is swallowed: TestAuditIsOrderedAndSurvivesItsHook,
//     TestBackoffTellsTheReason, TestFailuresGoToSlogWithoutAHook.
//  7. Valid certificates are served, expired ones never, whatever happens to
//     CA, cache or policy: TestValidCertificateIsServedThroughAnOutage,
//     TestPolicyIsAskedOncePerTTL, TestUnreadableCacheNeverOrders,
//     TestDamagedAccountKeyIsAnErrorAndStays, TestKeyChangeSurvivesACrash,
//     TestRevokedCertificateIsNeverServedAgain.
//  8. The CA is never hammered: TestHostileRepliesAreBounded, TestNoRenewalLoop,
//     TestCrashLoopLeavesTheCAAlone, TestCAThatFailsIsBackedOffOnce.
//  9. Every goroutine ends on Close: TestCloseEndsEverything,
//     TestCloseNamesCallbacksThatDoNotReturn.
// 10. The cache is autocert's: the tests of swap_test.go.

// world is a Manager, its CA and its cache in a bubble of virtual time.
type world struct {
	t      *testing.T
	ca     *acmetest.Server
	cache  *faultyCache
	m      *certmgr.Manager
	events *recorder
	policy *agedPolicy // nil unless the test sets it
}

// inBubble runs f in a bubble with a new world, after set has set fields of its
// CA. Tests that take long call t.Parallel before, unless they set or measure what
// belongs to the process: the default logger, goroutines, memory, the environment.
func inBubble(t *testing.T, f func(t *testing.T, w *world), set ...func(ca *acmetest.Server)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, set...)
		defer w.close()
		f(t, w)
	})
}

// newWorld returns a Manager that allows *.example.com by exact names a to d,
// and whose CA reaches it under every name. It is made and closed in a bubble.
func newWorld(t *testing.T, set ...func(ca *acmetest.Server)) *world {
	ca := acmetest.NewUnstartedServer()
	ca.ValidateInReply = acmetest.Never // so that authorizations are polled, as at Let's Encrypt
	for _, f := range set {
		f(ca)
	}
	ca.StartMemory()
	return newWorldOf(t, ca)
}

// newWorldOf is newWorld with another CA.
func newWorldOf(t *testing.T, ca *acmetest.Server) *world {
	w := &world{t: t, ca: ca, cache: &faultyCache{Cache: new(cache.Memory)}, events: new(recorder)}
	w.m = w.manager()
	w.reach()
	return w
}

func (w *world) close() {
	if w.t.Failed() {
		w.t.Log(w.ca)
		w.t.Log(w.events)
	}
	w.cache.release()
	w.m.Close()
	w.ca.Close()
}

// manager returns a new Manager with the same CA and cache: a restart, or
// another machine. HandshakeWait is the default of TLS stacks, also for hellos
// without a context, which tests make.
func (w *world) manager() *certmgr.Manager {
	return &certmgr.Manager{
		Prompt: certmgr.AcceptTOS,
		Cache:  w.cache,
		Hosts:  certmgr.MustAllowlist("a.example.com", "b.example.com", "c.example.com", "d.example.com"),
		Client: &acme.Client{DirectoryURL: w.ca.URL, HTTPClient: w.ca.Client()},
		Audit:  w.events.hook,

		HandshakeWait: 10 * time.Second,
	}
}

// reach makes every name lead to the present Manager.
func (w *world) reach() {
	w.ca.Resolve("*", acmetest.Target{TLSConfig: w.m.TLSConfig()})
}

// restart closes the Manager and puts a new one in its place.
func (w *world) restart() {
	w.t.Helper()
	if err := w.m.Close(); err != nil {
		w.t.Fatalf("Close: %v", err)
	}
	w.m = w.manager()
	w.reach()
}

// spendExtras makes the record of a host's failure in the Cache say that two extra
// attempts began just now, under settings that are not known, so that a restart
// earns none.
func (w *world) spendExtras(host string) {
	w.t.Helper()
	w.editRecord(host, func(record map[string]any) {
		record["extra"] = []time.Time{time.Now(), time.Now()}
		delete(record, "settings")
	})
}

// editRecord changes the record of a host's failure in the Cache.
func (w *world) editRecord(host string, edit func(record map[string]any)) {
	w.t.Helper()
	synctest.Wait()
	data, err := w.cache.Cache.Get(w.t.Context(), host+"+failure")
	var record map[string]any
	if err == nil {
		err = json.Unmarshal(data, &record)
	}
	if err != nil {
		w.t.Fatalf("the record of %s: %v", host, err)
	}
	edit(record)
	if data, err = json.Marshal(record); err == nil {
		err = w.cache.Cache.Put(w.t.Context(), host+"+failure", data)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) get(host string) (*tls.Certificate, error) {
	return w.m.GetCertificate(&tls.ClientHelloInfo{ServerName: host})
}

// mustGet is get for a host that has to be served.
func (w *world) mustGet(host string) *tls.Certificate {
	w.t.Helper()
	cert, err := w.get(host)
	if err != nil {
		w.t.Fatalf("GetCertificate(%q): %v", host, err)
	}
	if err := cert.Leaf.VerifyHostname(host); err != nil {
		w.t.Fatalf("GetCertificate(%q) returned a foreign certificate: %v", host, err)
	}
	if now := certmgr.Now(w.m); now.After(cert.Leaf.NotAfter) {
		w.t.Fatalf("GetCertificate(%q) returned a certificate that expired %v ago", host, now.Sub(cert.Leaf.NotAfter))
	}
	return cert
}

// wantErr asks for host and checks that it is refused with the sentinel, at
// once, in one line.
func (w *world) wantErr(host string, sentinel error) error {
	w.t.Helper()
	start := time.Now()
	cert, err := w.get(host)
	if cert != nil || !errors.Is(err, sentinel) {
		w.t.Fatalf("GetCertificate(%q) = %v, %v; want an error that wraps %q", host, cert != nil, err, sentinel)
	}
	if d := time.Since(start); d != 0 {
		w.t.Fatalf("GetCertificate(%q) took %v to refuse", host, d)
	}
	if strings.ContainsAny(err.Error(), "\n\r\x00") || len(err.Error()) > text.MaxError {
		w.t.Fatalf("the error of %q is not one line of bounded length: %q", host, err)
	}
	return err
}

// serialOf is a serial number as tools print it.
func serialOf(leaf *x509.Certificate) string { return hex.EncodeToString(leaf.SerialNumber.Bytes()) }

// handshake is a real handshake over an in-memory connection, under ctx on the
// server's side.
func (w *world) handshake(ctx context.Context, host string) (serverErr error) {
	client, server := net.Pipe()
	var wg sync.WaitGroup
	wg.Go(func() {
		defer client.Close()
		tls.Client(client, &tls.Config{ServerName: host, RootCAs: w.ca.Roots()}).HandshakeContext(context.Background())
	})
	conn := tls.Server(server, w.m.TLSConfig())
	serverErr = conn.HandshakeContext(ctx)
	server.Close()
	wg.Wait()
	return serverErr
}

// recorder is an audit hook that remembers.
type recorder struct {
	mu     sync.Mutex
	events []audit.Event
}

func (r *recorder) hook(_ context.Context, e audit.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
}

// of returns the events of a kind so far, oldest first.
func (r *recorder) of(kind audit.Kind) []audit.Event {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	var events []audit.Event
	for _, e := range r.events {
		if e.Kind == kind {
			events = append(events, e)
		}
	}
	return events
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

// faultyCache is a Cache that does as it is told, for keys that match.
type faultyCache struct {
	cache.Cache

	mu       sync.Mutex
	onGet    func(ctx context.Context, key string) error
	onPut    func(ctx context.Context, key string) error
	gets     []string
	puts     []string
	released chan struct{}
}

func (c *faultyCache) Get(ctx context.Context, key string) ([]byte, error) {
	c.mu.Lock()
	if key != visitsKey { // its own matter, which follows no handshake
		c.gets = append(c.gets, key)
	}
	f := c.onGet
	c.mu.Unlock()
	if f != nil {
		if err := f(ctx, key); err != nil {
			return nil, err
		}
	}
	return c.Cache.Get(ctx, key)
}

func (c *faultyCache) Put(ctx context.Context, key string, data []byte) error {
	c.mu.Lock()
	if key != visitsKey {
		c.puts = append(c.puts, key)
	}
	f := c.onPut
	c.mu.Unlock()
	if f != nil {
		if err := f(ctx, key); err != nil {
			return err
		}
	}
	return c.Cache.Put(ctx, key, data)
}

func (c *faultyCache) get(f func(ctx context.Context, key string) error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.onGet = f
}

func (c *faultyCache) put(f func(ctx context.Context, key string) error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.onPut = f
}

// hang is a fault that ignores its context until release.
func (c *faultyCache) hang() {
	c.mu.Lock()
	if c.released == nil {
		c.released = make(chan struct{})
	}
	ch := c.released
	c.mu.Unlock()
	<-ch
}

func (c *faultyCache) release() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.released != nil {
		close(c.released)
		c.released = nil
	}
}

// reads returns the keys read so far and forgets them.
func (c *faultyCache) reads() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	keys := c.gets
	c.gets = nil
	return keys
}

// otherReads is reads without the entries of orders, which are looked for in the
// background after a load.
func (c *faultyCache) otherReads() []string { return slices.DeleteFunc(c.reads(), isOrderKey) }

// quietLog keeps slog.Default() out of the test's output and returns what it got.
func quietLog(t *testing.T) *strings.Builder {
	t.Helper()
	var mu sync.Mutex
	var b strings.Builder
	old := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(writerFunc(func(p []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return b.Write(p)
	}), nil)))
	t.Cleanup(func() { slog.SetDefault(old) })
	return &b
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// What the documentation says, written out: a test that compares with the constant of
// the code passes whatever that is.
const (
	cacheTimeout   = 5 * time.Second
	policyTimeout  = 5 * time.Second
	policyTTL      = time.Minute
	attemptTimeout = 3 * time.Minute
	attemptGrace   = time.Second // for an attempt that ignores its end
	revokeTimeout  = 2 * time.Minute
	closeGrace     = 5 * time.Second
	failedFor      = time.Second     // a read of the cache that failed is not made again for so long
	coalesceFor    = time.Minute     // events of one kind are one for so long
	patience       = time.Second     // the first visitor waits so long for a write
	refusedEvery   = time.Minute     // so are refused handshakes
	maxTimer       = 5 * time.Minute // after which the clock is looked at

	visitsKey = "certmgr+visits"
)

// policyWorld is a bubble whose hosts are allowed by policy alone.
func policyWorld(t *testing.T, policy certmgr.HostPolicy, f func(t *testing.T, w *world)) {
	t.Helper()
	inBubble(t, func(t *testing.T, w *world) {
		w.m.Hosts = nil
		w.m.HostPolicy = policy
		f(t, w)
	})
}

const day = 24 * time.Hour
