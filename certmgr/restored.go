package certmgr

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"time"

	"github.com/nostall/nostall/internal/pace"
)

// origin says who recorded a failure.
type origin struct {
	machine  string // the name of the machine
	process  string // random, one for each Manager
	settings string // the hash of the settings
	local    bool   // in a fleet: the failure is that machine's alone; see isLocal
}

// precedes reports whether o recorded something at t before another process
// began: that one may follow a repair. It need not run on a machine of the same
// name, since a container often gets a new one when it is restarted.
func (o origin) precedes(self origin, t, began time.Time) bool {
	return (o.process != self.process || o.process == "") && !t.After(began)
}

// What earns a host an extra attempt, for its event.
const (
	whyRestarted = "the process was restarted"
	whySettings  = "the settings were changed"
	whyListed    = "its entry on the list was added"
)

// restored returns a failure that was read from the Cache as it applies to this
// process. What this process recorded itself, and what the CA decided (a pause,
// a rejection, Retry-After), applies as it is. Beyond that,
//
//   - a failure from before this process began earns an attempt: a restart may
//     follow a repair;
//   - a later one, of another process that is alive, makes the host back off for
//     maxForeign at most, unless it is a verdict of the CA in a fleet: one machine at
//     a time asks the CA then, for all of them;
//   - changed settings and a change of the list earn an attempt in any case.
func (h *health) restored(sub subject, rec *failure, now time.Time) *failure {
	own := rec.by.process == h.self.process && rec.by.process != ""
	before := rec.by.precedes(h.self, rec.err.Time, h.began)
	decided := rec.err.State.isHeld() || rec.clockOff
	switch {
	case h.failures.listedSince(sub.host(), rec.err.Time):
		return rec.withExtra(whyListed, maxExtra, now)
	case own:
	case rec.by.settings != "" && rec.by.settings != h.settings.hash() && !rec.clockOff:
		free := *rec
		free.asked = time.Time{}
		return free.withExtra(whySettings, maxExtraSettings, now)
	case decided, !before && h.settings.isFleet() && !rec.by.local:
	case before:
		return rec.withExtra(whyRestarted, maxExtra, now)
	default:
		return rec.retryAt(pace.Earlier(rec.err.RetryAt, pace.Later(rec.err.Time.Add(maxForeign), rec.asked)))
	}
	return rec
}

// hash returns a hash of the settings on which it depends whether the CA issues
// a certificate. Together with the others, the key of the external account
// binding cannot be guessed from it.
func (set *settings) hash() string {
	h := sha256.New()
	add := func(b []byte) {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(b))))
		h.Write(b)
	}
	add([]byte(set.client.DirectoryURL))
	add([]byte(set.email))
	if eab := set.externalAccountBinding; eab != nil {
		add([]byte(eab.KID))
		add(eab.Key)
	}
	for _, typ := range set.challengeTypes() {
		add([]byte(typ))
	}
	if set.profiles.hash != nil {
		add(set.profiles.hash)
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}
