// Package flight holds the mechanisms by which work that several goroutines ask
// for is begun, shared, bounded and ended:
//
//   - Tasks owns goroutines. Close ends their context and waits for them.
//   - Flight coalesces: of those who ask for the same key at the same time one
//     begins a call, and all share its outcome. A second caller joins.
//   - Callouts runs code of the user's that may hang, panic or ignore its context,
//     and bounds what is lost to it. A second caller of a key waits for its turn,
//     and then makes a call of its own.
//   - KeyLock serialises: one holder of a key at a time, for as long as it likes.
//   - Slots bounds how much runs at the same time, by priority.
//   - Waiters bounds how many wait.
//   - Pending counts what is under way, for those who wait for its end.
//   - Sleep, Retry and Within wait for a time, under a context.
//
// Everybody waits on channels and under a context, and no lock is held meanwhile.
// The package knows contexts, goroutines, keys and bounds. It knows nothing of
// hosts, certificates and events. Its goroutines are those of Tasks and Callouts;
// whoever made these has Close or Wait called on them.
package flight
