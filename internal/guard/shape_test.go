package guard

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nostall/nostall/internal/guard/shape"
)

const (
	mostFields        = 12
	mostMethods       = 25
	mostParams        = 5
	mostFieldsInALine = 4 // of a literal
)

// cycles holds the tolerated groups of types that refer to each other.
var cycles = tolerated{
	"certmgr: heldLease leases":                 "a lease and the book that holds it: two halves of one thing",
	"certmgr/acmetest: Server targetTransport":  "the transport asks the server that hands it out where a name leads",
	"certmgr/acmetest: authorization challenge": "records of RFC 8555 that refer to each other",
	"certmgr/acmetest: certificate order":       "records of RFC 8555 that refer to each other",
	"internal/acmeclient: calls oneCall":        "a call under way and the book that holds it: two halves of one thing",
	"internal/acmeclient: replaces transport":   "what is sent once more, and how it is sent: two halves of one thing",
	"internal/cases: T Table":                   "a test knows its table, as testing.T knows its parent",
}

// widths holds the tolerated structs with methods and too many fields or
// methods.
var widths = tolerated{
	"certmgr/audit.Event":   "a record: each field is documented, and each kind of event says which it has",
	"certmgr.Manager":       "public configuration, most of it autocert's",
	"certmgr.HostStatus":    "a record: each field is documented, and the methods are the definitions that all counts share",
	"certmgr.Snapshot":      "a record: each field is documented",
	"certmgr.IssuanceError": "what is known of a failure: each field is documented",
	"certmgr.failureRecord": "a record in the cache",
	"certmgr.settings":      "the Manager's configuration, frozen",

	"certmgr/acmetest.Server": "a whole CA: a method for each endpoint, and for each fault that a test may ask for",
	"certmgr/acmetest.order":  "a record of RFC 8555",

	"internal/conformance.Client": "a method for each thing that a case may send to a CA",
}

// parameters holds the tolerated functions with too many parameters.
var parameters = tolerated{}

// flags holds the tolerated boolean parameters that get a literal true or
// false.
var flags = tolerated{}

// A cycle of types, with their methods, can only be understood and changed as a
// whole.
func TestTypesDoNotLeadToEachOther(t *testing.T) {
	found := make(map[string]string)
	for _, p := range corePackages(t) {
		for _, group := range p.Cycles() {
			found[short(p.Path)+": "+strings.Join(group, " ")] = "these types, with their methods, lead to each other: " +
				leads(p.Uses(group)) + ". Let one side know the other by an interface, a function or a value"
		}
	}
	cycles.check(t, "cycles", found)
}

// leads formats which type refers to which.
func leads(uses map[string][]string) string {
	var parts []string
	for _, from := range sortedKeys(uses) {
		parts = append(parts, from+" names "+strings.Join(uses[from], ", "))
	}
	return strings.Join(parts, "; ")
}

func TestStructsWithMethodsAreNarrow(t *testing.T) {
	found := make(map[string]string)
	for _, p := range corePackages(t) {
		for _, w := range p.Widths() {
			if w.Fields > mostFields || w.Methods > mostMethods {
				found[short(p.Path)+"."+w.Type] = fmt.Sprintf("a struct with methods that has %d fields (at most %d) and %d methods (at most %d): "+
					"find the fields that some of its methods use alone, and make them a type of their own with those methods",
					w.Fields, mostFields, w.Methods, mostMethods)
			}
		}
	}
	widths.check(t, "widths", found)
}

func TestFunctionsHaveFewParameters(t *testing.T) {
	found := make(map[string]string)
	for _, p := range corePackages(t) {
		for _, f := range p.Functions() {
			if f.Params > mostParams {
				found[shortFunc(f.Name)] = fmt.Sprintf("%d parameters (at most %d): give it a struct with named fields, "+
					"or make it a method of what it gets", f.Params, mostParams)
			}
		}
	}
	parameters.check(t, "parameters", found)
}

// The call f(x, true) does not show what is true.
func TestCallsPassNoLiteralBools(t *testing.T) {
	found := make(map[string]string)
	for _, f := range shape.Flags(corePackages(t)) {
		found[shortFunc(f.Func)+" "+f.Param] = fmt.Sprintf("%s:%d passes true or false for it: make two functions of it, "+
			"or give it a type with named values", filepath.Base(f.Call.Filename), f.Call.Line)
	}
	flags.check(t, "flags", found)
}

func shortFunc(name string) string { return strings.ReplaceAll(name, module+"/", "") }

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// A literal with many fields on a line is hard to compare with its struct, and
// with itself in a diff.
func TestLiteralsHaveOneFieldALine(t *testing.T) {
	for _, p := range corePackages(t) {
		for _, lit := range p.CrowdedLiterals(mostFieldsInALine) {
			t.Errorf("%s/%s:%d: a literal of %s with %d fields by name: give each a line of its own",
				short(p.Path), filepath.Base(lit.Pos.Filename), lit.Pos.Line, lit.Type, lit.Fields)
		}
	}
}
