package guard

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

const certmgr = module + "/certmgr"

// may says what a package may import in addition to the standard library.
type may struct {
	pkg     string   // its path below the module
	imports []string // paths below the module, or below golang.org as "x/..."
	never   []string // forbidden packages of the standard library
	why     string
}

// layers has a row for each package of the core module, without its tests.
// Imports point only downwards: no package below internal imports certmgr
// itself, nor do packages that are useful without it. A new package gets a row
// and a new import an entry, with its reason; an import that is gone leaves its
// row.
var layers = []may{
	{
		pkg: "certmgr",
		imports: []string{
			"certmgr/audit", "certmgr/cache", "certmgr/preflight",
			"internal/account", "internal/acmeclient", "internal/auditqueue", "internal/bundle", "internal/capped", "internal/certfiles", "internal/challenge", "internal/flight",
			"internal/hosts", "internal/order", "internal/pace", "internal/probe", "internal/renewal", "internal/table", "internal/text",
			"x/crypto/acme", "x/crypto/acme/autocert", "x/net/idna",
		},
		why: "the engine is built from all the others",
	},
	{
		pkg:     "certmgr/acmetest",
		imports: []string{"x/net/idna"},
		why:     "the fake CA tests any ACME client, shares no code with the one that it tests, and certmgr's own tests import it",
	},
	{
		pkg:     "certmgr/acmetest/cmd/acmetest",
		imports: []string{"certmgr/acmetest", "certmgr/acmetest/dnstest", "x/net/publicsuffix"},
		why:     "the fake CA as a program; what it does, users of the package can do too",
	},
	{
		pkg:     "certmgr/acmetest/dnstest",
		imports: []string{"certmgr/acmetest", "x/net/dns/dnsmessage"},
		why:     "the fake CA's records over DNS; apart from it, so that the CA needs the standard library only",
	},
	{
		pkg:     "certmgr/askpolicy",
		imports: []string{"certmgr", "internal/capped", "internal/flight"},
		why:     "a policy as a user could write it; it knows what a policy's errors mean, and shares and bounds questions as the engine does",
	},
	{
		pkg:     "certmgr/audit",
		imports: []string{"internal/text"},
		never:   []string{"crypto/tls", "net", "net/http"},
		why:     "the names of what happens, for those who tell of it and those who listen; not how it comes about",
	},
	{
		pkg:     "certmgr/cache",
		imports: []string{"x/crypto/acme/autocert", "x/sync/errgroup"},
		never:   []string{"net", "net/http"},
		why:     "a cache is of use without the manager, with autocert for one; it reads several entries at a time",
	},
	{
		pkg:     "certmgr/cache/cachetest",
		imports: []string{"certmgr/cache"},
		why:     "it tests any cache",
	},
	{
		pkg:     "certmgr/pemfiles",
		imports: []string{"certmgr"},
		never:   []string{"net/http"},
		why:     "a hook as a user could write it; it knows files, and how a hook says that it failed",
	},
	{
		pkg:     "certmgr/preflight",
		imports: []string{"internal/flight", "internal/text"},
		never:   []string{"crypto/tls", "net/http"},
		why:     "the names of what a preflight can be set to and finds; not how it finds it",
	},
	{
		pkg:     "certmgr/status",
		imports: []string{"certmgr", "certmgr/audit", "internal/text", "x/crypto/acme"},
		why:     "a page that sees what every user can see, how text is written in one line, and the reasons of a revocation",
	},
	{
		pkg: "internal/account",
		imports: []string{
			"certmgr/audit", "internal/acmeclient", "internal/bundle", "internal/flight", "internal/text",
			"x/crypto/acme",
		},
		why: "the account's key, registration, contact and roll-over; it knows no hosts",
	},
	{
		pkg:     "internal/acmeclient",
		imports: []string{"internal/flight", "internal/text", "x/crypto/acme"},
		why:     "what x/crypto/acme lacks; it knows neither hosts nor events, and of flight how to wait and what is said of a panic",
	},
	{
		pkg:     "internal/auditqueue",
		imports: []string{"certmgr/audit", "internal/capped", "internal/text"},
		why:     "it delivers events, wherever they come from, keeps some, bounded, and of text has the stack of a hook that panicked",
	},
	{
		pkg:     "internal/bundle",
		imports: []string{"internal/text", "x/crypto/cryptobyte", "x/crypto/cryptobyte/asn1"},
		never:   []string{"net", "net/http", "os"},
		why:     "keys and chains as bytes; no I/O",
	},
	{
		pkg:     "internal/capped",
		imports: nil,
		never:   []string{"context", "net/http", "os", "sync", "time"},
		why:     "a map with a bound, of anything",
	},
	{
		pkg:     "internal/cases",
		imports: nil,
		why:     "the table of known failures is that of several packages' tests",
	},
	{
		pkg:     "internal/certfiles",
		imports: []string{"internal/bundle"},
		never:   []string{"crypto/tls", "net", "net/http"},
		why:     "an operator's files of certificates; it knows PEM and files, and not who serves them",
	},
	{
		pkg:     "internal/challenge",
		imports: []string{"internal/bundle", "internal/capped", "internal/hosts", "internal/text", "x/crypto/acme"},
		why:     "live answers to challenges; it knows no policy and no handshakes",
	},
	{
		pkg:     "internal/conformance",
		imports: []string{"x/crypto/acme"},
		why:     "the same table runs against acmetest and Pebble, so it knows neither",
	},
	{
		pkg:     "internal/flight",
		imports: []string{"internal/pace", "internal/text", "x/sync/singleflight"},
		never:   []string{"crypto/tls", "crypto/x509", "net", "net/http", "os"},
		why:     "contexts, goroutines, keys and bounds; no hosts, certificates, events or CA",
	},
	{
		pkg:     "internal/guard",
		imports: nil,
		why:     "it holds nothing but tests",
	},
	{
		pkg:     "internal/guard/shape",
		imports: nil,
		why:     "it measures any Go package",
	},
	{
		pkg:     "internal/guard/structure",
		imports: []string{"internal/guard/shape"},
		why:     "a command that prints what shape measures",
	},
	{
		pkg:     "internal/hosts",
		imports: []string{"internal/text", "x/net/idna", "x/net/publicsuffix"},
		never:   []string{"crypto/tls", "net/http"},
		why:     "names and lists of names; it knows no Manager and nobody who watches a list",
	},
	{
		pkg: "internal/order",
		imports: []string{
			"certmgr/audit", "internal/acmeclient", "internal/bundle", "internal/challenge", "internal/flight", "internal/hosts", "internal/pace", "internal/text",
			"x/crypto/acme",
		},
		why: "one conversation for one certificate with one client; it knows no backoff, memory, slots or preflight",
	},
	{
		pkg:     "internal/pace",
		imports: nil,
		never:   []string{"context", "net/http", "os", "sync"},
		why:     "arithmetic with times as parameters: no I/O, lock or goroutine",
	},
	{
		pkg: "internal/probe",
		imports: []string{
			"certmgr/preflight", "internal/bundle", "internal/challenge", "internal/flight", "internal/hosts", "internal/text",
			"x/crypto/acme",
		},
		why: "it looks up and dials before an order; it knows no orders, events or accounts",
	},
	{
		pkg:     "internal/renewal",
		imports: []string{"internal/acmeclient", "internal/pace", "internal/text"},
		never:   []string{"context", "net/http", "os", "sync"},
		why:     "when to renew, with times as parameters: no I/O, lock or goroutine",
	},
	{
		pkg:     "internal/servertest",
		imports: nil,
		why:     "it starts real servers for tests, also of the nested modules; it knows no client of theirs",
	},
	{
		pkg:     "internal/sim",
		imports: nil,
		why:     "it holds nothing but tests",
	},
	{
		pkg:     "internal/table",
		imports: nil,
		never:   []string{"context", "net/http", "os", "sync", "time", "unsafe"},
		why:     "a map that is read without a lock, of anything",
	},
	{
		pkg:     "internal/text",
		imports: []string{"x/crypto/acme"},
		never:   []string{"net/http", "os"},
		why:     "how errors, times and foreign text are written in one line",
	},
}

func TestImports(t *testing.T) {
	imports := make(map[string]map[string]bool) // by package, on any of the platforms
	for _, platform := range platforms {
		for _, p := range listDeps(t, platform) {
			if p.DepOnly {
				continue
			}
			pkg := short(p.ImportPath)
			if imports[pkg] == nil {
				imports[pkg] = make(map[string]bool)
			}
			for _, path := range p.Imports {
				imports[pkg][short(path)] = true
			}
		}
	}
	rows := make(map[string]may)
	for _, row := range layers {
		if _, ok := rows[row.pkg]; ok {
			t.Errorf("layers has two rows for %s", row.pkg)
		}
		rows[row.pkg] = row
	}
	for _, pkg := range slices.Sorted(maps.Keys(imports)) {
		row, ok := rows[pkg]
		if !ok {
			t.Errorf("%s has no row in layers (internal/guard/imports_test.go): say there what it may import, and why", pkg)
			continue
		}
		for _, path := range slices.Sorted(maps.Keys(imports[pkg])) {
			switch {
			case slices.Contains(row.never, path):
				t.Errorf("%s imports %s: %s", pkg, path, row.why)
			case isLayer(path) && !slices.Contains(row.imports, path):
				t.Errorf("%s imports %s, which its row in layers (internal/guard/imports_test.go) does not list: %s. "+
					"If that still holds with the import, list it", pkg, path, row.why)
			}
		}
	}
	for _, row := range layers {
		checkRowIsNeeded(t, row, imports)
	}
}

// checkRowIsNeeded reports unused permissions of a row.
func checkRowIsNeeded(t *testing.T, row may, imports map[string]map[string]bool) {
	t.Helper()
	if imports[row.pkg] == nil {
		t.Errorf("there is no package %s: delete its row in layers", row.pkg)
		return
	}
	for _, path := range row.imports {
		if !imports[row.pkg][path] {
			t.Errorf("%s does not import %s: take it out of its row in layers", row.pkg, path)
		}
	}
}

// short returns paths of the core module and of golang.org/x in the form of
// layers.
func short(path string) string {
	if rest, ok := strings.CutPrefix(path, module+"/"); ok {
		return rest
	}
	if strings.HasPrefix(path, "golang.org/x/") {
		return strings.TrimPrefix(path, "golang.org/")
	}
	return path
}

// isLayer reports whether a path, as returned by short, belongs in layers: a
// package of the core module or of golang.org/x.
func isLayer(path string) bool {
	return in(path, "certmgr") || in(path, "internal") || in(path, "x")
}

// Users' servers must contain no test code. Importing testing alone adds flags
// to every program.
//
// The fake CA is for users' tests, with its DNS server and its command. Four
// more packages of test code are not in _test.go files because several
// packages' tests share them: cachetest, which users run too; conformance,
// whose table runs against acmetest here and against Pebble in the nested
// module internal/integration; cases, whose table of known failures covers several
// packages; and servertest, which starts the servers that the tests of nested
// modules need. Nothing else may import them either.
func TestProductionCodeLeavesTestCodeOut(t *testing.T) {
	testOnly := []string{
		"testing", "net/http/httptest", certmgr + "/acmetest", certmgr + "/acmetest/dnstest", certmgr + "/acmetest/cmd/acmetest",
		certmgr + "/cache/cachetest", module + "/internal/conformance", module + "/internal/cases",
		module + "/internal/servertest",
	}
	for _, p := range listDeps(t, platforms[0]) {
		if p.DepOnly || slices.Contains(testOnly, p.ImportPath) {
			continue
		}
		for _, path := range testOnly {
			if slices.Contains(p.Deps, path) {
				t.Errorf("%s imports %s, directly or not: keep it to _test.go files", p.ImportPath, path)
			}
		}
	}
}
