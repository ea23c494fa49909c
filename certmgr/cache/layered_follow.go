package cache

import (
	"context"
	"crypto/sha256"
	"iter"
	"sync"
	"time"
)

// Follow implements [Follower].
func (l *LayeredCache) Follow(ctx context.Context) iter.Seq[News] {
	return func(yield func(News) bool) {
		select {
		case l.following <- struct{}{}:
		case <-ctx.Done():
			return
		}
		defer func() { <-l.following }()
		l.circuit.follow()
		defer l.circuit.unfollow()
		var f following
		for {
			news, wait := l.look(ctx, &f)
			if ctx.Err() != nil {
				return
			}
			if news != nil {
				if !yield(*news) {
					return
				}
				// Not before: a loop that ends here would have lost them.
				l.review.finish(f.batch)
				f.batch = nil
				continue
			}
			l.review.sleep(ctx, wait)
		}
	}
}

// following is the state of a loop of Follow. Only its goroutine uses it.
type following struct {
	down  bool            // it was told that the store is down
	batch []reviewedEntry // what the news are of
}

// look does what is next, and returns news or how long to wait.
func (l *LayeredCache) look(ctx context.Context, f *following) (*News, time.Duration) {
	if err := l.copies.takeErr(); err != nil {
		return &News{Copies: err}, 0
	}
	probeAt, down := l.circuit.state()
	if down != nil {
		if !f.down {
			f.down = true
			return &News{Down: down}, 0
		}
		if wait := time.Until(probeAt); wait > 0 {
			return nil, wait
		}
		if err := l.probe(ctx); err == nil {
			l.circuit.answered()
		} else if ctx.Err() == nil {
			l.circuit.open(err)
		}
		return nil, 0
	}
	batch, wait := l.review.take(reviewBatch)
	if len(batch) > 0 {
		news := l.compare(ctx, batch)
		if news != nil {
			f.batch = batch
		}
		return news, 0
	}
	if f.down {
		f.down = false
		return &News{Up: true}, 0
	}
	return nil, wait
}

// compare reads entries in the store, updates their copies, and returns which were
// outdated, or nil if the store is down again.
func (l *LayeredCache) compare(ctx context.Context, batch []reviewedEntry) *News {
	keys := make([]string, len(batch))
	versions := make([]int, len(batch))
	for i, e := range batch {
		keys[i], versions[i] = e.key, l.copies.begin(e.key)
		defer l.copies.end(e.key)
	}
	in, cancel := context.WithTimeout(ctx, batchTimeout)
	defer cancel()
	values, answers, err := l.readAgain(in, keys)
	if err == nil && len(values) < len(keys) {
		err = l.verify(ctx)
	}
	if ctx.Err() != nil {
		return nil
	}
	if err != nil && (in.Err() != nil || !answers || err == errOtherStore) {
		l.circuit.open(err)
		return nil
	}
	if err == nil {
		l.circuit.answered()
	}
	news := new(News)
	for i, e := range batch {
		data, ok := values[e.key]
		switch {
		case !ok && err != nil: // it may be this entry that cannot be read
			l.review.postpone(e)
		case !ok:
			l.copies.delete(e.key, versions[i])
			if e.returned {
				news.Gone = append(news.Gone, e.key)
			}
		default:
			l.copies.set(e.key, versions[i], data)
			if e.returned && sha256.Sum256(data) != e.sum {
				news.Changed = append(news.Changed, e.key)
			}
		}
	}
	return news
}

// readAgain reads entries in the store, and reports whether it answers at all. One
// entry that cannot be read may keep others from being read with it.
func (l *LayeredCache) readAgain(ctx context.Context, keys []string) (values map[string][]byte, answers bool, err error) {
	values, err = GetMany(ctx, l.remote, keys)
	if err == nil || len(values) > 0 {
		return values, true, err
	}
	if l.probe(ctx) != nil {
		return nil, false, err
	}
	values, err = GetMany(ctx, struct{ Cache }{l.remote}, keys)
	return values, true, err
}

const (
	// reviewBatch is how many entries are read at a time.
	reviewBatch = 500

	// reviewAgain is how long an entry waits that is not urgent.
	reviewAgain = time.Minute

	// reviewIdle is how long Follow waits if there is nothing to do.
	reviewIdle = time.Hour
)

// review holds the entries that are to be read in the store again: those of which
// copies were returned, and those whose copies may be outdated.
type review struct {
	wake chan struct{} // receives when there is one more

	mu      sync.Mutex // protects what follows
	entries map[string]reviewedEntry
	seq     uint64
}

// reviewedEntry is an entry that is to be read.
type reviewedEntry struct {
	key      string
	returned bool
	sum      [sha256.Size]byte // of the copy that was returned last
	shown    uint64            // the change since which that is to be told
	due      time.Time
	seq      uint64 // of the last change
}

// sleep waits until there is something new, but not longer than this.
func (r *review) sleep(ctx context.Context, wait time.Duration) {
	if wait <= 0 {
		return
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.wake:
	case <-ctx.Done():
	}
}

// returned notes that the copy of an entry was returned.
func (r *review) returned(key string, data []byte) {
	r.put(reviewedEntry{key: key, returned: true, sum: sha256.Sum256(data), due: time.Now()})
}

// add notes that the copy of an entry may be outdated.
func (r *review) add(key string) {
	r.put(reviewedEntry{key: key, due: time.Now().Add(reviewAgain)})
}

func (r *review) put(e reviewedEntry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.entries == nil {
		r.entries = make(map[string]reviewedEntry)
	}
	r.seq++
	e.seq = r.seq
	if old, ok := r.entries[e.key]; e.returned {
		e.shown = e.seq
	} else if ok && old.returned {
		e.returned, e.sum, e.shown, e.due = true, old.sum, old.shown, old.due
	}
	r.entries[e.key] = e
	signal(r.wake)
}

// take returns up to limit entries that are due, and otherwise how long until one
// is.
func (r *review) take(limit int) (due []reviewedEntry, wait time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	wait = reviewIdle
	for _, e := range r.entries {
		if left := e.due.Sub(now); left > 0 {
			wait = min(wait, left)
			continue
		}
		if due = append(due, e); len(due) == limit {
			break
		}
	}
	return due, wait
}

// finish removes entries, unless there is more to do about them since they were
// taken. What was returned before then has been told.
func (r *review) finish(entries []reviewedEntry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range entries {
		switch now := r.entries[e.key]; {
		case now.seq == e.seq:
			delete(r.entries, e.key)
		case now.returned && now.shown == e.shown:
			now.returned, now.due = false, time.Now().Add(reviewAgain)
			r.entries[e.key] = now
		}
	}
}

// postpone has an entry that could not be read wait.
func (r *review) postpone(e reviewedEntry) {
	e.due = time.Now().Add(reviewAgain)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.entries[e.key].seq == e.seq {
		r.seq++
		e.seq, e.shown = r.seq, r.seq // it is still to be told
		r.entries[e.key] = e
	}
}
