package certmgr

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
)

// profile is the profile (draft-ietf-acme-profiles) that an order asks for. The
// zero value leaves the choice to the CA.
type profile struct {
	name  string
	field string // of the Manager that sets it, for errors
}

// hostProfile returns a profile of Manager.HostSettings, as kept under a key.
func hostProfile(name, key string) profile {
	if key[0] == '.' {
		key = "*" + key
	}
	return profile{name, fmt.Sprintf("Manager.HostSettings[%q].Profile", key)}
}

// profileSettings are the profiles that the settings of a Manager name.
type profileSettings struct {
	all  []profile // each name once, with the first field that has it
	hash []byte    // of all fields; nil if none has a profile
}

func newProfileSettings(managers string, byKey map[string]HostSettings) (set profileSettings) {
	names := make(map[string]bool)
	h := sha256.New()
	add := func(p profile) {
		if p.name == "" {
			return
		}
		fmt.Fprintf(h, "%q %q\n", p.field, p.name)
		if !names[p.name] {
			names[p.name] = true
			set.all = append(set.all, p)
		}
	}
	add(profile{managers, "Manager.Profile"})
	for _, key := range slices.Sorted(maps.Keys(byKey)) {
		add(hostProfile(byKey[key].Profile, key))
	}
	if len(set.all) > 0 {
		set.hash = h.Sum(nil)
	}
	return set
}
