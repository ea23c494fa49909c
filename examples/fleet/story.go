package main

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nostall/nostall/certmgr/audit"
)

// story prints what happens, a line at a time.
type story struct {
	mu     sync.Mutex
	began  time.Time       // the chapter
	waited map[string]bool // servers that waited for another one, by name and host
}

func newStory() *story { return &story{began: time.Now(), waited: make(map[string]bool)} }

// chapter begins one.
func (s *story) chapter(title string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.began = time.Now()
	fmt.Printf("\n%s\n", title)
}

// width is the largest length of a line.
const width = 79

// line prints what a server does, or what is seen from outside if name is empty.
func (s *story) line(name, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	label := fmt.Sprintf("%5.1f s  %-5s ", time.Since(s.began).Seconds(), name)
	column := len(label)
	var b strings.Builder
	for _, word := range strings.Fields(text) {
		if column > len(label) && column+1+len(word) > width {
			b.WriteString("\n" + strings.Repeat(" ", len(label)))
			column = len(label)
		} else if column > len(label) {
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += len(word)
	}
	fmt.Println(label + b.String())
}

// event prints an event of a server, if it belongs to the story.
func (s *story) event(name string, r report) {
	switch r.Kind {
	case audit.IssuanceStarted:
		if s.hasWaited(name, r.Host) {
			s.line(name, "takes over, and issues a certificate for "+r.Host)
		} else {
			s.line(name, "issues a certificate for "+r.Host)
		}
	case audit.IssuanceElsewhere:
		s.waits(name, r.Host)
		_, why, _ := strings.Cut(r.Reason, "; ")
		s.line(name, "waits: "+why)
	case audit.CertificateIssued:
		s.line(name, "has issued and stored it")
	case audit.CertificateLoaded:
		s.line(name, "serves it, from the store")
	case audit.IssuanceFailed, audit.IssuanceCanceled, audit.CacheReadFailed, audit.CacheWriteFailed:
		s.line(name, strings.TrimSpace(string(r.Kind)+": "+r.Reason+" "+r.Err))
	}
}

// waits notes that a server waits for another one.
func (s *story) waits(name, host string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waited[name+" "+host] = true
}

func (s *story) hasWaited(name, host string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.waited[name+" "+host]
}
