package certmgr

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/flight"
	"github.com/nostall/nostall/internal/pace"
)

// orderBudget is Manager.OrderBudget: how many orders the account may still place.
// A CA that limits orders refuses all hosts once they are used up. So strangers,
// who can ask for any number of names, must leave some to the hosts on the list.
//
// The budget is the account's, which restarts and other machines share by the
// Cache. Each process counts by itself, and adds its own orders to what the entry
// says, once a minute at most. In a fleet it does so under a lock, and before it
// places more than some orders that the others do not know of.
type orderBudget struct {
	*env
	store *store
	fleet *budgetFleet // nil if there is none
	size  int          // 0 means no limit
	id    string       // of this process, in the entry

	mu      sync.Mutex
	bucket  pace.Bucket
	recent  int           // orders since the entry was last read or written
	synced  time.Duration // when that was, by the monotonic clock
	read    bool          // the entry was read, or there is none
	keeping bool          // keep is running
	refused [shares]refusedOrders
}

// share is a part of the budget, by what is left to others.
type share uint8

const (
	shareAll       share = iota // visitors of listed hosts, renewals, operators: the last order
	shareStart                  // first certificates in the background: more than a sixth is left
	shareStrangers              // hosts that are not on the list by name, and second certificates: more than half is left

	shares = 3
)

// refusedOrders are orders that were refused for one share.
type refusedOrders struct {
	count int           // since the last event
	told  time.Duration // the last event, by the monotonic clock; 0 if there was none
}

const (
	// budgetSaveEvery is the shortest time between two writes of the budget.
	budgetSaveEvery = time.Minute

	// budgetTellEvery is the shortest time between two events about orders that
	// were refused for one share.
	budgetTellEvery = time.Hour
)

// budgetRecord is the JSON form of the budget in the Cache.
type budgetRecord struct {
	CA      string    `json:"ca"`
	Process string    `json:"process"` // the last one that wrote it
	Time    time.Time `json:"time"`
	Used    float64   `json:"used"` // orders that had not been refilled
}

func newOrderBudget(e *env, s *store, l *leases) *orderBudget {
	size := e.settings.orderBudget
	return &orderBudget{
		env:    e,
		store:  s,
		fleet:  newBudgetFleet(l),
		size:   size,
		id:     strings.ToLower(rand.Text()[:10]),
		bucket: pace.NewBucket(size, pace.AccountWindow),
	}
}

// defaultOrderBudget returns the limit of the CA with this directory, as far as
// it is known, or zero.
func defaultOrderBudget(directory string) int {
	if isLetsEncrypt(directory) {
		return pace.AccountOrders
	}
	return 0
}

// isLetsEncrypt reports whether a directory is Let's Encrypt's or its staging
// environment's.
func isLetsEncrypt(directory string) bool {
	u, err := url.Parse(directory)
	if err != nil {
		return false
	}
	switch strings.ToLower(u.Hostname()) {
	case "acme-v02.api.letsencrypt.org", "acme-staging-v02.api.letsencrypt.org":
		return true
	}
	return false
}

// cacheKey returns the key of the budget's entry: CAs have one each.
func (b *orderBudget) cacheKey() string {
	sum := sha256.Sum256([]byte(b.dir))
	return "acme_ca+" + hex.EncodeToString(sum[:8]) + "+orders"
}

// keep returns how many orders those of a share leave to others.
func (b *orderBudget) keep(s share) int {
	switch s {
	case shareStrangers:
		return b.size / 2
	case shareStart:
		return b.size / 6
	}
	return 0
}

// check returns an error if there is no order for a share now.
func (b *orderBudget) check(host string, s share) error {
	if b.size == 0 {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	ran := b.ran()
	if next := b.bucket.Next(ran, b.keep(s)); next > ran {
		return b.refuse(host, s, next-ran)
	}
	return nil
}

// take takes an order, or returns an error if there is none for the share.
func (b *orderBudget) take(ctx context.Context, host string, s share) error {
	if b.size == 0 {
		return nil
	}
	for {
		if err := b.takeShared(host, s); err != errUnshared {
			return err
		}
		if b.share(ctx) != nil {
			return b.takeAnyway(host, s)
		}
	}
}

// takeAnyway is take for an order that the other machines of a fleet need not know
// of first. It does not wait.
func (b *orderBudget) takeAnyway(host string, s share) error {
	if b.size == 0 {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.takeFrom(host, s)
}

// takeFrom is take. b.mu is held.
func (b *orderBudget) takeFrom(host string, s share) error {
	ran := b.ran()
	next, ok := b.bucket.Take(ran, b.keep(s))
	if !ok {
		return b.refuse(host, s, next-ran)
	}
	b.changed(1)
	return nil
}

// spend takes an order that was placed already.
func (b *orderBudget) spend() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.bucket.Spend(b.ran())
	b.changed(1)
}

// giveBack returns an order that was not placed.
func (b *orderBudget) giveBack() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.bucket.GiveBack(b.ran())
	b.changed(-1)
}

// left returns how many orders are left, or 0 if there is no limit.
func (b *orderBudget) left() int {
	if b.size == 0 {
		return 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.bucket.Left(b.ran())
}

// refuse returns the error for a host, and emits an event unless there was one
// lately. b.mu is held.
func (b *orderBudget) refuse(host string, s share, wait time.Duration) error {
	ran, next := b.ran(), b.now().Add(wait)
	why := fmt.Sprintf("%d of the account's %d orders in %d hours are left (Manager.OrderBudget)", b.bucket.Left(ran), b.size, int(pace.AccountWindow.Hours()))
	switch s {
	case shareStart:
		why += fmt.Sprintf(", and first certificates in the background leave %d to visitors and renewals", b.keep(s))
	case shareStrangers:
		why += fmt.Sprintf(", and hosts that are not on Manager.Hosts by name, or have a certificate of the other key type, leave %d to others", b.keep(s))
	}
	r := &b.refused[s]
	r.count++
	if r.told == 0 || ran-r.told >= budgetTellEvery {
		b.audit.Emit(audit.Event{
			Kind:    audit.OrdersRationed,
			CA:      b.dir,
			Host:    host,
			Rule:    "OrderBudget",
			Count:   r.count,
			RetryAt: next,
			Reason:  why,
		})
		*r = refusedOrders{told: max(ran, 1)}
	}
	return &caRefusal{refusal{kind: ErrBackoff, host: host, text: why}, next}
}

// changed notes that n orders were placed, for the Cache. b.mu is held.
func (b *orderBudget) changed(n int) {
	b.recent += n
	if !b.keeping && b.settings.cache != nil {
		b.keeping = b.tasks.Go(b.keepEntry)
	}
}

// keepEntry writes the budget to the Cache, as long as it changes, and when the
// Manager is closed.
func (b *orderBudget) keepEntry(ctx context.Context) {
	for {
		b.save(ctx)
		closed := flight.Sleep(ctx, budgetSaveEvery) != nil
		b.mu.Lock()
		changed := b.recent != 0
		b.keeping = changed && !closed
		b.mu.Unlock()
		if closed && changed {
			b.save(ctx)
		}
		if closed || !changed {
			return
		}
	}
}

// save writes the entry, with the orders of other processes that it has.
func (b *orderBudget) save(ctx context.Context) error {
	key := b.cacheKey()
	if err := b.store.failedLately(key); err != nil {
		return err
	}
	ctx, unlock, err := b.fleet.lock(context.WithoutCancel(ctx), key)
	if err != nil {
		return err
	}
	defer unlock()
	var written int
	err = b.store.update(ctx, key, func(data []byte) ([]byte, error) {
		rec := b.decode(data)
		b.mu.Lock()
		defer b.mu.Unlock()
		ran := b.ran()
		b.merge(rec, ran)
		written = b.recent
		return json.Marshal(budgetRecord{
			CA:      b.dir,
			Process: b.id,
			Time:    b.now().UTC(),
			Used:    b.bucket.Used(ran),
		})
	})
	if err != nil {
		return err // which was reported
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.recent -= written
	return nil
}

// restore reads the entry before the first order. If it cannot be read, all
// orders of this account are taken to be left.
func (b *orderBudget) restore(ctx context.Context) {
	if b.size == 0 || b.settings.cache == nil {
		return
	}
	b.mu.Lock()
	read := b.read
	b.mu.Unlock()
	if read {
		return
	}
	data, _ := b.store.get(ctx, b.cacheKey()) // an error was reported
	rec := b.decode(data)
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.read {
		b.merge(rec, b.ran())
	}
}

// decode returns the record in an entry. One that is damaged, or another CA's,
// counts as missing.
func (b *orderBudget) decode(data []byte) *budgetRecord {
	if data == nil {
		return nil
	}
	rec := new(budgetRecord)
	if err := decodeRecord(data, maxRecord, rec); err != nil {
		b.reports.badRecord(b.cacheKey(), err)
		return nil
	}
	if rec.CA != b.dir {
		return nil
	}
	return rec
}

// merge adopts what another process has written, and adds the orders that it does
// not know of. Its clock may be wrong, or this one: after the first time the entry
// cannot be older than what was last seen of it. b.mu is held.
func (b *orderBudget) merge(rec *budgetRecord, ran time.Duration) {
	if rec != nil && rec.Process != b.id {
		age := b.now().Sub(rec.Time)
		if b.read {
			age = min(age, ran-b.synced)
		}
		b.bucket.SetUsed(ran, rec.Used, age, b.recent)
	}
	b.read, b.synced = true, ran
}
