package pace

import "time"

// A Wait lasts From a time Until another, both by the wall clock, without
// monotonic readings. So it goes on while the machine is suspended, and means
// the same after a restart. What is kept waiting asks for At before it looks at
// Until.
type Wait struct{ From, Until time.Time }

// tolerance is how far ahead a Wait may begin without a clock that was set back:
// callers may have read the clock before it began.
const tolerance = time.Second

// At returns the wait as of now, for the caller to keep. If the clock was set
// back to before the wait began, it begins again at now, and is no longer than
// it was. Otherwise it would last for as long as the clock was ahead.
func (w Wait) At(now time.Time) Wait {
	if ahead := w.From.Sub(now); ahead > tolerance {
		return Wait{now, w.Until.Add(-ahead)}
	}
	return w
}

// IsOver reports whether nothing waits any more at now.
func (w Wait) IsOver(now time.Time) bool { return !now.Before(w.Until) }
