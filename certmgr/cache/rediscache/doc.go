// Package rediscache keeps the entries of certmgr on Redis 7 or newer, for machines
// that share them: on a single server, behind sentinels, or in a cluster. It is a
// [cache.Cache] with locks, so that a fleet orders each certificate once, and with
// the abilities to list, to read many entries at once and to watch an entry.
//
// # Keys
//
// All keys begin with the hash tag "{certmgr}:", or another one by
// [Options.Prefix]: "{certmgr}:entry:example.com" has the bytes that autocert would
// have stored, "{certmgr}:lock:example.com" is a lock with its token and owner, and
// "{certmgr}:token" the counter of tokens. Only locks have an expiry.
//
// So in a cluster everything is in one slot, on one primary. A lease may guard
// any entry, and one script compares the lock and writes the entry; a script may
// use keys of one slot only. Spreading entries over slots would give up that
// comparison, to share out little: the entries of 10,000 hosts are about 100 MB,
// and written every two months. Caches with different prefixes are in different
// slots. While a cluster moves the slot to another server, calls may fail for that
// time.
//
// # What is guaranteed
//
// By one primary that keeps its data: a name has one lease at a time, which ends
// by the server's clock; Put and Delete under a lease change an entry only if the
// lease still has the lock, in one step; a Put is whole or not at all.
//
// A failover of the primary can lose what it had acknowledged, since Redis
// replicates after it has answered: the last moments before a crash, and
// everything that a primary which was cut off from the others went on to accept.
//
//   - An entry may be gone, or be the older one. A certificate is then ordered
//     again, unless a machine has it in memory or on disk.
//   - A lock may be gone, so that a second machine takes it while the first still
//     works: two orders. Only the second can write. Each lease has a random
//     identity, which the comparison includes, and the first lease's is not there.
//   - The counter of tokens may go back. Tokens grow all the same, since none is
//     smaller than the server's time in microseconds: they go back only if the new
//     primary's clock is behind the old one's by more than the failover took. Writes
//     to this cache do not depend on it; only a system that compares tokens itself
//     would.
//
// The settings min-replicas-to-write 1 and min-replicas-max-lag 10 bound the loss
// to those ten seconds: a primary that has no replica in step refuses to write.
// The command WAIT would delay each write and still not promise that the replica
// with the data is the one that takes over, so it is not used.
//
// A server that is restarted has what it had saved: all of it with "appendonly
// yes". With "appendfsync always", a crash and a power failure lose nothing either.
// Each write waits for the disk then, which a fleet of certificates does not notice.
// With "everysec", the default, a power failure loses the last second or two, as
// above. So does a crash of the process while the file is synced: writes are
// confirmed before they are handed to the operating system then. Without the
// append-only file all since the last snapshot is lost.
//
// maxmemory-policy must be noeviction, or the server drops entries and locks when
// its memory is short. [Cache.Check] tells.
//
// # The client
//
// A call returns when its context ends, even if the server hangs. go-redis itself
// then waits for its ReadTimeout (5 seconds by default), with a connection of the
// pool; with ContextTimeoutEnabled it gives up at the deadline of the context. Set
// that. The client repeats requests whose answer was lost. All are made for it, but
// an Unlock that was repeated may report [cache.ErrLost].
//
// Entries are always read from the primary, whatever the client's ReadOnly,
// RouteByLatency or client-side cache are set to. A client of sentinels with
// ReplicaOnly cannot be used.
package rediscache
