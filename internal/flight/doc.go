// Package flight provides the mechanisms to start, share, bound and end work
// that several goroutines ask for:
//
//   - Tasks owns goroutines. Close ends their context and Wait waits for them.
//   - Flight coalesces calls: concurrent callers of a key share one call and its
//     outcome. A second caller joins.
//   - Callouts runs user callbacks, which may hang, panic or ignore their context,
//     and bounds what they can leak. A second caller of a key waits for its turn
//     and then makes its own call.
//   - KeyLock serialises: a key has one holder at a time, for as long as it likes.
//   - Slots limits how much runs at the same time, by priority.
//   - Waiters limits how many callers wait.
//   - Pending counts work in flight, so that its end can be waited for.
//   - Sleep, Retry and Within wait for a time, under a context.
//
// All waits are on channels and under a context, and no lock is held meanwhile.
// The package knows contexts, goroutines, keys and limits, and nothing of
// hosts, certificates or events. Only Tasks and Callouts start goroutines;
// their owner ends them by Close and Wait.
package flight
