package acmetest

import (
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"runtime"
	"strings"
	"time"
)

// This file finds uses of a server that would fail later, and unclearly.

// notStarted is the URL before the start. It leads nowhere: an empty URL would
// make x/crypto's client use Let's Encrypt.
const notStarted = "https://acmetest-not-started.invalid" + pathDirectory

// errNotStarted is what the client gets before the start.
var errNotStarted = errors.New("acmetest: the server is not started: call Start or StartMemory, then read URL")

// notMade is what happens to a server that no function made.
const notMade = "acmetest: make servers with NewServer, NewMemoryServer or NewUnstartedServer"

// failingTransport fails with an error.
type failingTransport struct{ err error }

func (t failingTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	closeBody(req)
	return nil, t.err
}

// mustBeUsable panics if the server was not made, a field was set after the
// start, or the caller is in a testing/synctest bubble but the server is not.
// Each method begins with it, except those that may be called on any server.
func (s *Server) mustBeUsable() {
	if s.ctx == nil {
		panic(notMade)
	}
	if field := s.changedField(); field != "" {
		panic("acmetest: " + changedText(field))
	}
	if s.origin == outside {
		s.mustBeInside()
	}
}

// mustBeInside panics if the caller is not in the bubble in which the server
// was started, or outside of bubbles as the start was. It is for requests and
// for methods that use channels.
func (s *Server) mustBeInside() {
	switch here := bubble(); {
	case s.origin == "" || s.origin == here:
	case s.origin == outside:
		panic("acmetest: this server was made outside of the bubble that uses it: call NewMemoryServer inside synctest.Test")
	default:
		panic("acmetest: this server was made in another bubble: use and close it inside the same synctest.Test")
	}
}

// outside is the origin of servers that were not started in a bubble.
const outside = "outside"

// inBubble reports whether the caller is in a testing/synctest bubble: there,
// and only there, the current time has no monotonic reading.
func inBubble() bool {
	now := time.Now()
	return now == now.Round(0)
}

// bubble returns the name of the caller's bubble, or outside.
func bubble() string {
	if !inBubble() {
		return outside
	}
	// A new goroutine belongs to the same bubble, and its stack is short. The
	// first line is "goroutine 7 [running, synctest bubble 1]:".
	name := make(chan string)
	go func() {
		b := make([]byte, 64)
		line, _, _ := strings.Cut(string(b[:runtime.Stack(b, false)]), "]")
		_, rest, _ := strings.Cut(line, "bubble ")
		name <- "bubble " + rest
	}()
	return <-name
}

// setField is an exported field of a server as it was at the start.
type setField struct {
	name  string
	index int
	value reflect.Value // a copy
}

// copyFields returns copies of the exported fields.
func (s *Server) copyFields() []setField {
	var fields []setField
	v := reflect.ValueOf(s).Elem()
	for i := range v.NumField() {
		if field := v.Type().Field(i); field.IsExported() {
			fields = append(fields, setField{field.Name, i, copyOf(v.Field(i))})
		}
	}
	return fields
}

// changedField returns the name of an exported field that has changed since the
// start, or an empty text.
func (s *Server) changedField() string {
	v := reflect.ValueOf(s).Elem()
	for _, field := range s.started {
		if !same(v.Field(field.index), field.value) {
			return field.name
		}
	}
	return ""
}

func changedText(field string) string {
	return fmt.Sprintf("the field %s was changed after the start, which is too late: call NewUnstartedServer, set it, "+
		"then call Start or StartMemory", field)
}

// copyOf returns a copy of a field with the maps, the slices and the RateLimits
// that it leads to. Other pointers are kept.
func copyOf(v reflect.Value) reflect.Value {
	c := reflect.New(v.Type()).Elem()
	c.Set(v)
	switch {
	case v.Kind() == reflect.Map && !v.IsNil():
		c.Set(reflect.MakeMap(v.Type()))
		for key, value := range v.Seq2() {
			c.SetMapIndex(key, copyOf(value))
		}
	case v.Kind() == reflect.Slice && !v.IsNil():
		c.Set(reflect.MakeSlice(v.Type(), v.Len(), v.Len()))
		reflect.Copy(c, v)
	case isLimits(v):
		c.Set(reflect.New(v.Type().Elem()))
		for i := range v.Elem().NumField() {
			c.Elem().Field(i).Set(copyOf(v.Elem().Field(i)))
		}
	}
	return c
}

func isLimits(v reflect.Value) bool { return v.Type() == reflect.TypeFor[*RateLimits]() && !v.IsNil() }

// same reports whether a field is still like its copy.
func same(v, c reflect.Value) bool {
	switch v.Kind() {
	case reflect.Func:
		return v.Pointer() == c.Pointer()
	case reflect.Map:
		if v.IsNil() != c.IsNil() || v.Len() != c.Len() {
			return false
		}
		for key, value := range c.Seq2() {
			if now := v.MapIndex(key); !now.IsValid() || !same(now, value) {
				return false
			}
		}
		return true
	case reflect.Slice:
		if v.IsNil() != c.IsNil() || v.Len() != c.Len() {
			return false
		}
		for i := range v.Len() {
			if !same(v.Index(i), c.Index(i)) {
				return false
			}
		}
		return true
	case reflect.Pointer:
		if !isLimits(v) || !isLimits(c) {
			return v.Pointer() == c.Pointer()
		}
		for i := range v.Elem().NumField() {
			if !same(v.Elem().Field(i), c.Elem().Field(i)) {
				return false
			}
		}
		return true
	default:
		return v.Equal(c)
	}
}
