package certmgr

import (
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"unsafe"
)

// Mutexes are the mutexes of a Manager and of its parts, by where they are.
type Mutexes map[string]sync.Locker

// MutexesOf finds all that m holds by fields, pointers and interfaces once it
// is in use: those of every component. Others come and go with an attempt.
func MutexesOf(m *Manager) Mutexes {
	m.init()
	found := make(Mutexes)
	findMutexes(reflect.ValueOf(m).Elem(), "Manager", make(map[unsafe.Pointer]bool), found)
	return found
}

func findMutexes(v reflect.Value, path string, seen map[unsafe.Pointer]bool, found Mutexes) {
	switch v.Kind() {
	case reflect.Pointer:
		if p := v.UnsafePointer(); !v.IsNil() && !seen[p] {
			seen[p] = true
			findMutexes(v.Elem(), path, seen, found)
		}
	case reflect.Interface:
		if !v.IsNil() {
			findMutexes(v.Elem(), path, seen, found)
		}
	case reflect.Struct:
		switch pkg := v.Type().PkgPath(); {
		case v.CanAddr() && (v.Type() == reflect.TypeFor[sync.Mutex]() || v.Type() == reflect.TypeFor[sync.RWMutex]()):
			found[path] = reflect.NewAt(v.Type(), v.Addr().UnsafePointer()).Interface().(sync.Locker)
			return
		case pkg != "sync" && !strings.Contains(pkg, "nostall/nostall/") && !strings.Contains(pkg, "singleflight"):
			return // not ours, such as a net/http.Client
		case strings.HasSuffix(pkg, "_test"), strings.HasSuffix(pkg, "/acmetest"), strings.HasSuffix(pkg, "certmgr/cache"):
			return // the test's
		}
		for i := range v.NumField() {
			findMutexes(v.Field(i), path+"."+v.Type().Field(i).Name, seen, found)
		}
	}
}

// Held returns which mutexes are held, and not just for a moment. Who holds one of
// a Manager does not block meanwhile, so others have released theirs after a while.
func (ms Mutexes) Held() []string { return ms.HeldFor(300_000) }

// HeldFor returns which mutexes are held whenever each is tried so many times.
func (ms Mutexes) HeldFor(tries int) (held []string) {
	for path, mu := range ms {
		try := mu.(interface {
			TryLock() bool
			Unlock()
		})
		free := false
		for range tries {
			if free = try.TryLock(); free {
				try.Unlock()
				break
			}
			runtime.Gosched()
		}
		if !free {
			held = append(held, path)
		}
	}
	slices.Sort(held)
	return held
}
