package certmgr

import "time"

// Most tests of this package are scenarios from outside, in package certmgr_test.
// Beyond the public API they need what follows, and nothing else.

// SetClock gives m, which must not be in use yet, a wall clock.
func SetClock(m *Manager, now func() time.Time) { m.clock = now }

// Now returns the time by m's clock.
func Now(m *Manager) time.Time { return m.engine.now() }

// InMemory returns how many certificates m holds in memory for host.
func InMemory(m *Manager, host string) int {
	return len(m.engine.report.memory.certificates(host))
}
