package certmgr

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/nostall/nostall/internal/hosts"
)

// million is a list of 1,000,000 names, made once for all benchmarks.
var million = sync.OnceValues(func() ([]string, *Allowlist) { return longList(1_000_000) })

// longList returns n names, and a list of them and a wildcard.
func longList(n int) ([]string, *Allowlist) {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("host-%07d.customer-%03d.example.com", i, i%1000)
	}
	return names, MustAllowlist(append(names[:len(names):len(names)], "*.example.org")...)
}

func BenchmarkAllowlistOfAMillion(b *testing.B) {
	names, list := million()
	miss := strings.Replace(names[0], "host", "hosts", 1)
	for name, next := range map[string]func(i int) string{
		"hit":      func(i int) string { return names[i*7919%len(names)] },
		"wildcard": func(int) string { return "www.example.org" },
		"miss":     func(int) string { return miss },
	} {
		b.Run("lookup/"+name, func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if (list.list.match(next(i)) != hosts.None) != (name != "miss") {
					b.Fatal("wrong answer")
				}
			}
		})
	}
	b.Run("lookup/parallel", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for i := 0; pb.Next(); i++ {
				list.list.match(names[i*7919%len(names)])
			}
		})
	})
	b.Run("Add and Remove one", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			list.Add("new.example.com")
			list.Remove("new.example.com")
		}
	})
	b.Run("Replace", func(b *testing.B) {
		b.ReportAllocs()
		a := new(Allowlist)
		for b.Loop() {
			a.Replace(names...)
		}
	})
}

// A name of a long list is looked up without allocation.
func TestLookupInALongListDoesNotAllocate(t *testing.T) {
	names, list := longList(50_000)
	if n := testing.AllocsPerRun(1000, func() {
		list.list.match(names[12_345])
		list.list.match("www.example.org")
		list.list.match("nobody.example.net")
	}); n != 0 {
		t.Errorf("a lookup allocates %v times", n)
	}
}
