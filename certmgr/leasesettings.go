package certmgr

import (
	"cmp"
	"fmt"
	"os"
	"time"

	"github.com/nostall/nostall/certmgr/cache"
	"github.com/nostall/nostall/internal/text"
)

// defaultLease is Manager.Lease if that is not set.
const defaultLease = 30 * time.Second

// leaseOf returns how long a lease lasts, and why that is not what the setting says,
// if it cannot be.
func leaseOf(d time.Duration) (time.Duration, error) {
	d = cmp.Or(d, defaultLease)
	if d < cache.MinLease {
		return defaultLease, badSettings([]string{fmt.Sprintf("Manager.Lease is %v, and %v is the shortest; %v is used", d, cache.MinLease, defaultLease)})
	}
	return d, nil
}

// maxMachine is the longest name of a machine, in bytes.
const maxMachine = 100

// machineName returns the name of this machine for other machines: the setting, or
// its host name.
func machineName(set string) string {
	if set != "" {
		return text.OneLine(set, maxMachine)
	}
	name, err := os.Hostname()
	if err != nil {
		return "unknown"
	}
	return text.OneLine(name, maxMachine)
}
