package rediscache

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/redis/go-redis/v9"
)

// Check asks the server, or each primary of a cluster, for settings that lose
// entries, and returns an error that says what to change. Call it when a program
// starts. It finds an eviction policy, by which a server that is short of memory
// drops entries and locks, and a replica in place of a primary. It does not look
// at persistence, which is a choice: the package documentation says more.
//
// A server that does not tell, such as a managed service, is no error. One that
// cannot be reached is.
func (c *Cache) Check(ctx context.Context) error {
	_, err := await(ctx, func() (struct{}, error) {
		var (
			mu       sync.Mutex // protects problems
			problems []error
		)
		err := c.eachPrimary(ctx, func(ctx context.Context, server redis.UniversalClient) error {
			info, err := information(ctx, server)
			if err != nil && !refused(err) {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			problems = append(problems, checkServer(info))
			return nil
		})
		return struct{}{}, errors.Join(append(problems, err)...)
	})
	if err != nil {
		return failed("check the server", "", err)
	}
	return nil
}

// refused reports whether the server does not answer INFO.
func refused(err error) bool {
	return redis.IsPermissionError(err) || redis.HasErrorPrefix(err, "unknown")
}

func checkServer(info map[string]string) error {
	where := "the server at port " + info["tcp_port"]
	if role, ok := info["role"]; ok && role != "master" {
		return fmt.Errorf("%s is a replica, and entries would be read late and never written: connect to the primary", where)
	}
	if policy, ok := info["maxmemory_policy"]; ok && policy != "noeviction" {
		return fmt.Errorf("%s has maxmemory-policy %s and would drop entries, which are then ordered again, and locks: "+
			"set maxmemory-policy noeviction (CONFIG SET, and in redis.conf)", where, policy)
	}
	return nil
}
