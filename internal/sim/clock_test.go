package sim

import (
	"reflect"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/nostall/nostall/certmgr"
)

// clock is the clock of the machine that the Managers run on. The CA and the
// bubble know the true time.
//
// While a machine is suspended, its wall clock continues, and its monotonic
// readings and timers stand still. While only the process is stopped, both
// readings continue, and timers fire late. In the bubble such a time takes no
// time: afterwards the readings are ahead of the bubble's clock, and the timers
// still have what they had to wait.
type clock struct {
	slept  atomic.Int64 // how far the wall clock is ahead of the bubble's
	frozen atomic.Int64 // the same for monotonic readings

	instant atomic.Int64 // the bubble's time at the last reading
	reads   atomic.Int64 // readings at that time
	spun    atomic.Bool
}

// maxReadings is how often the clock may be read while no time passes. In a busy
// loop no time ever passes, so the clock is moved on by an hour to end it.
const maxReadings = 20_000

// now is what time.Now returns on the machine.
func (c *clock) now() time.Time {
	instant := time.Now()
	if c.instant.Swap(instant.UnixNano()) != instant.UnixNano() {
		c.reads.Store(0)
	}
	if c.reads.Add(1) > maxReadings {
		c.spun.Store(true)
		c.reads.Store(0)
		c.slept.Add(int64(time.Hour))
	}
	return withReadings(c.wall(), instant.Add(time.Duration(c.frozen.Load())).Sub(time.Unix(0, 0)))
}

// wall returns the time by the machine's wall clock.
func (c *clock) wall() time.Time { return time.Now().Add(time.Duration(c.slept.Load())) }

// stop suspends the machine for d, or stops the process.
func (c *clock) stop(d time.Duration, onlyProcess bool) {
	c.slept.Add(int64(d))
	if onlyProcess {
		c.frozen.Add(int64(d))
	}
}

// withReadings returns a time with these readings of both clocks. Only unsafe
// can make it: a bubble's clock has no monotonic reading, and the methods of
// time.Time move both by the same amount. certmgr's tests of suspended machines
// check this layout of time.Time.
func withReadings(wall time.Time, monotonic time.Duration) time.Time {
	// Seconds from year 1 to 1970, and to 1885, from which a time with a monotonic reading counts.
	const (
		toUnix = (1969*365 + 1969/4 - 1969/100 + 1969/400) * 86400
		toWall = (1884*365 + 1884/4 - 1884/100 + 1884/400) * 86400
	)
	t := wall
	fields := (*struct {
		wall uint64
		ext  int64
		loc  *time.Location
	})(unsafe.Pointer(&t))
	fields.wall = 1<<63 | uint64(wall.Unix()+toUnix-toWall)<<30 | uint64(wall.Nanosecond())
	fields.ext = int64(monotonic)
	return t
}

// setClock gives m, which must not be in use yet, a clock. The field is not
// exported, as programs must not set it.
func setClock(m *certmgr.Manager, now func() time.Time) {
	field := reflect.ValueOf(m).Elem().FieldByName("clock")
	reflect.NewAt(field.Type(), unsafe.Pointer(field.UnsafeAddr())).Elem().Set(reflect.ValueOf(now))
}
