package certmgr

import (
	"strings"
	"testing"

	"github.com/nostall/nostall/internal/bundle"
)

func TestEntryKeysAreOfBoundedLength(t *testing.T) {
	long := strings.Repeat("a", 63) + "." + strings.Repeat("b", 63) + "." + strings.Repeat("c", 60) + ".example.com"
	if len(long) != 200 {
		t.Fatalf("the name has %d bytes", len(long))
	}
	seen := make(map[string]bool)
	for _, c := range []struct {
		host, suffix string
		hashed       bool
	}{
		{"example.com", "+failure", false},
		{"example.com", "+rsa+failure", false},
		{long[8:], "+failure", false}, // 200 bytes
		{long[7:], "+failure", true},
		{long, "+failure", true},
		{long, "+rsa+failure", true},
		{long[1:], "+rsa+failure", true},
	} {
		key := entryKey(c.host, c.suffix)
		want := c.host + c.suffix
		if c.hashed {
			host, _, _ := strings.Cut(key, "+")
			if len(host) != 64 || strings.Trim(host, "0123456789abcdef") != "" || !strings.HasSuffix(key, host+c.suffix) {
				t.Errorf("the key of %s is %q", want, key)
			}
		} else if key != want {
			t.Errorf("the key is %q, want %q", key, want)
		}
		if len(key) > maxEntryKey || seen[key] {
			t.Errorf("%q has %d bytes, seen before: %v", key, len(key), seen[key])
		}
		seen[key] = true
	}
	// It is documented: others may look for the entry.
	if key := entryKey(long, "+failure"); key != "46e51affbc2de4cf9a66b682fba6d364bb045c03694fa5c262c3cd460ea5b363+failure" {
		t.Errorf("the key is %q", key)
	}
}

// autocert's keys are never shortened.
func TestKeysOfAutocertAreNotShortened(t *testing.T) {
	host := strings.Repeat(strings.Repeat("a", 49)+".", 5) + "com"
	if key := newSubject(bundle.RSA, "", host).cacheKey(); key != host+"+rsa" {
		t.Errorf("the key is %q", key)
	}
}

// The entry of an evicted record stays if another one of the host uses it, under a
// shortened key too.
func TestEvictedRecordOfALongNameLeavesTheEntryOfAnother(t *testing.T) {
	host := strings.Repeat(strings.Repeat("a", 49)+".", 5) + "com"
	f := newFailures()
	f.records.Put(failureKey{host, scopeHost}, &failure{}, nil)
	if !f.uses(failureKey{host, scopeECDSA}) || f.uses(failureKey{host, scopeRSA}) {
		t.Error("the record of both key types is not found")
	}
}
