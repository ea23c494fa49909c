package fleet

import (
	"testing"
	"time"
)

// fault is what happens in the middle of issuances, all of which the first
// machine has begun.
type fault struct {
	name string

	// takenOver: another machine must go on while the fault lasts. What is measured
	// is the time from its beginning until that machine's first request to the CA.
	// Otherwise it is the time until the certificate is stored, from when the store
	// answers again, or, if it never ceased to, from the beginning.
	takenOver bool
	survived  bool // the first machine goes on when the fault has ended
	stores    bool // it is a fault of the store

	begin func(t *testing.T, f *fleet)
	end   func(t *testing.T, f *fleet)
}

// faults returns all of them.
func faults() []fault {
	return []fault{
		{
			name:      "kill -9",
			takenOver: true,
			begin:     func(_ *testing.T, f *fleet) { f.mark(f.holder(), true); f.holder().Kill() },
			end:       func(*testing.T, *fleet) {},
		},
		{
			name:      "SIGSTOP",
			takenOver: true,
			survived:  true,
			begin:     func(t *testing.T, f *fleet) { f.mark(f.holder(), true); f.holder().pause(t) },
			end:       func(t *testing.T, f *fleet) { f.holder().proceed(t); f.mark(f.holder(), false) },
		},
		{
			name:     "store restarted",
			survived: true,
			stores:   true,
			begin:    func(_ *testing.T, f *fleet) { f.store.server.Stop() },
			end:      func(_ *testing.T, f *fleet) { f.store.server.Start() },
		},
		{
			name:      "store cut off",
			takenOver: true,
			survived:  true,
			stores:    true,
			begin:     func(_ *testing.T, f *fleet) { f.store.cut(0) },
			end:       func(_ *testing.T, f *fleet) { f.store.mend() },
		},
		{
			name:     "store slow by 2 s",
			survived: true,
			stores:   true,
			begin:    func(_ *testing.T, f *fleet) { f.store.delay(2 * time.Second) },
			end:      func(_ *testing.T, f *fleet) { f.store.mend() },
		},
	}
}

// lasts is how long a fault lasts that nobody takes over from: longer than a
// lease, so the holder has lost its own.
const lasts = lease + 2*time.Second

// pauser is a process that can be stopped and continued.
type pauser interface {
	Pause()
	Continue()
}

// pause stops a machine as kill -STOP does. Only some systems can.
func (m *theMachine) pause(t *testing.T) {
	p, ok := any(m.Process).(pauser)
	if !ok {
		t.Skip("processes cannot be paused here")
	}
	p.Pause()
}

// proceed lets it go on.
func (m *theMachine) proceed(*testing.T) {
	if p, ok := any(m.Process).(pauser); ok {
		p.Continue()
	}
}
