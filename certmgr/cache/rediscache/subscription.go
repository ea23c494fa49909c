package rediscache

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// probeEvery is how often a subscription sends itself a message. The answer must
// come before the next one.
const probeEvery = 5 * time.Second

var (
	errSilent      = fmt.Errorf("the server has sent nothing for %v", probeEvery)
	errInterrupted = errors.New("the subscription was interrupted")
)

// subscription listens to the changes of all entries. A server forgets messages
// for a subscriber that is away, and the client connects again without a word, so
// the first irregularity ends it.
//
// A connection to a server that hangs, or to a former primary behind a broken
// network, looks alive. So it publishes to a channel of its own, by the client's
// other connections, and must hear itself.
type subscription struct {
	cache *Cache
	ctx   context.Context
	// cancel ends ctx, whose end closes everything, in any order.
	cancel context.CancelCauseFunc
	pubsub *redis.PubSub
	probe  string      // the channel of its own
	heard  atomic.Bool // since the last probe

	ready chan struct{} // closed when it listens, or has failed
	err   error         // why it has failed; not changed once ready is closed
	set   map[string]map[*watcher]bool
}

func newSubscription(c *Cache) *subscription {
	ctx, cancel := context.WithCancelCause(context.Background())
	return &subscription{
		cache:  c,
		ctx:    ctx,
		cancel: cancel,
		pubsub: c.client.Subscribe(ctx), // to nothing yet, so without a connection
		probe:  c.prefix + "probe:" + newID(),
		ready:  make(chan struct{}),
		set:    make(map[string]map[*watcher]bool),
	}
}

// channel returns the channel on which changes are published.
func (c *Cache) channel() string { return c.prefix + "changed" }

// open closes ready, once.
func (s *subscription) open(err error) {
	select {
	case <-s.ready:
	default:
		s.err = err
		close(s.ready)
	}
}

// run listens until something ends the subscription.
func (s *subscription) run() {
	context.AfterFunc(s.ctx, func() {
		s.cache.watchers.end(s, context.Cause(s.ctx))
		s.pubsub.Close() // which may wait for a connection that is being made
	})
	go s.keep()
	s.cancel(s.listen())
}

// listen receives messages. It returns when one may have been lost.
func (s *subscription) listen() error {
	channels := []string{s.cache.channel(), s.probe}
	if err := s.pubsub.Subscribe(s.ctx, channels...); err != nil {
		return err
	}
	for missing := len(channels); ; {
		message, err := s.pubsub.ReceiveTimeout(s.ctx, 0)
		if err != nil {
			return err
		}
		switch m := message.(type) {
		case *redis.Subscription:
			missing--
			if missing < 0 || m.Kind != "subscribe" || !slices.Contains(channels, m.Channel) {
				return errInterrupted
			}
			if missing == 0 {
				s.heard.Store(true)
				s.cache.watchers.opened(s)
			}
		case *redis.Message:
			if m.Channel == s.probe {
				s.heard.Store(true)
			} else {
				s.cache.watchers.changed(s, m.Payload)
			}
		}
	}
}

// keep sends the probes.
func (s *subscription) keep() {
	ticker := time.NewTicker(probeEvery)
	defer ticker.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-ticker.C:
		}
		if !s.heard.Swap(false) {
			s.cancel(errSilent)
			return
		}
		ctx, cancel := context.WithTimeout(s.ctx, probeEvery)
		_, err := await(ctx, func() (int64, error) { return s.cache.client.Publish(ctx, s.probe, "").Result() })
		cancel()
		if err != nil {
			s.cancel(err)
			return
		}
	}
}
