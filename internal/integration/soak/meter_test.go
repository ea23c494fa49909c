package soak

import (
	"crypto/tls"
	"maps"
	"math/bits"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/nostall/nostall/certmgr"
)

// meter measures the hot path of a Manager in its own process: handshakes for
// hosts whose certificate is in memory.
type meter struct {
	m    *certmgr.Manager
	stop chan struct{}
	done chan struct{}

	mu     sync.Mutex
	phase  string
	phases map[string]*latencies
}

// latencies counts durations, in buckets whose width is an eighth of their power
// of two nanoseconds.
type latencies struct {
	Buckets map[int]uint64
	Max     time.Duration
	Failed  int // calls without a certificate
}

// measureEvery is the pause between two measurements.
const measureEvery = 500 * time.Microsecond

func newMeter(m *certmgr.Manager) *meter {
	t := &meter{
		m:      m,
		stop:   make(chan struct{}),
		done:   make(chan struct{}),
		phase:  quiet,
		phases: make(map[string]*latencies),
	}
	go t.run()
	return t
}

func (t *meter) run() {
	defer close(t.done)
	var hosts []certmgr.HostStatus
	var read time.Time // when they were
	tick := time.NewTicker(measureEvery)
	defer tick.Stop()
	for {
		select {
		case <-t.stop:
			return
		case <-tick.C:
		}
		if time.Since(read) > readEvery {
			hosts, read = t.warm(), time.Now()
		}
		if len(hosts) == 0 {
			continue
		}
		h := hosts[rand.IntN(len(hosts))]
		hello := &tls.ClientHelloInfo{
			ServerName:        h.Host,
			SupportedVersions: []uint16{tls.VersionTLS13},
			SignatureSchemes:  []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256},
		}
		began := time.Now()
		if began.Before(h.NotAfter) {
			_, err := t.m.GetCertificate(hello)
			t.add(time.Since(began), err)
		}
	}
}

// readEvery is how often the hosts are read whose certificates are in memory.
const readEvery = 2 * time.Second

// warm returns those hosts.
func (t *meter) warm() []certmgr.HostStatus {
	return slices.DeleteFunc(t.m.Snapshot().Hosts, func(h certmgr.HostStatus) bool { return h.State != certmgr.StateValid })
}

func (t *meter) add(d time.Duration, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.phases[t.phase]
	if l == nil {
		l = &latencies{Buckets: make(map[int]uint64)}
		t.phases[t.phase] = l
	}
	if err != nil {
		l.Failed++
	}
	l.Buckets[bucket(d)]++
	l.Max = max(l.Max, d)
}

func (t *meter) setPhase(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.phase = name
}

// all returns a copy of what was measured.
func (t *meter) all() map[string]*latencies {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := make(map[string]*latencies)
	for phase, l := range t.phases {
		all[phase] = &latencies{maps.Clone(l.Buckets), l.Max, l.Failed}
	}
	return all
}

func (t *meter) end() {
	close(t.stop)
	<-t.done
}

const subBits = 3

func bucket(d time.Duration) int {
	v := uint64(max(d, 1))
	shift := max(bits.Len64(v)-1-subBits, 0)
	return shift<<subBits + int(v>>shift)
}

// longest is the longest duration of a bucket.
func longest(bucket int) time.Duration {
	shift := max(bucket>>subBits-1, 0)
	return time.Duration(bucket-shift<<subBits+1)<<shift - 1
}

// merge adds others.
func (l *latencies) merge(o *latencies) {
	for b, n := range o.Buckets {
		l.Buckets[b] += n
	}
	l.Max = max(l.Max, o.Max)
	l.Failed += o.Failed
}

func (l *latencies) count() (n uint64) {
	for _, c := range l.Buckets {
		n += c
	}
	return n
}

// percentile returns a duration that the given part of all do not exceed.
func (l *latencies) percentile(part float64) time.Duration {
	rank := uint64(part * float64(l.count()))
	for b := range 64 << subBits {
		n := l.Buckets[b]
		if n > rank {
			return min(longest(b), l.Max)
		}
		rank -= n
	}
	return l.Max
}
