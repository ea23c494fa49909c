package certmgr

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/nostall/nostall/internal/hosts"
	"github.com/nostall/nostall/internal/text"
)

// HostSettings are the settings of a host in Manager.HostSettings. A zero field
// means the Manager's own setting.
type HostSettings struct {
	// Profile is the host's profile: see Manager.Profile.
	Profile string

	// KeyType is the type of key that is preferred: see Manager.KeyType.
	KeyType KeyType
}

// hostSettings holds Manager.HostSettings as of its first use, by normal form. As
// in a hosts.Set, a wildcard "*.example.com" has the key ".example.com", so that
// a lookup does not allocate. It is immutable, and the zero value is empty.
type hostSettings struct {
	byKey     map[string]HostSettings
	wildcards bool
	err       error // says which keys are invalid; it wraps ErrBadSetting
}

// newHostSettings copies the settings of hosts. Invalid keys are left out.
func newHostSettings(byName map[string]HostSettings) hostSettings {
	s := hostSettings{byKey: make(map[string]HostSettings, len(byName))}
	var bad []string
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		entry, err := settingsEntry(name)
		key := strings.TrimPrefix(entry, "*")
		if _, twice := s.byKey[key]; twice && err == nil {
			err = fmt.Errorf("another key is %s too", entry)
		}
		if kt := byName[name].KeyType; !kt.isValid() && err == nil {
			err = fmt.Errorf("KeyType is %v, which does not exist", kt)
		}
		if err != nil {
			bad = append(bad, fmt.Sprintf("Manager.HostSettings[%s]: %v", quoted(name), err))
			continue
		}
		s.byKey[key] = byName[name]
		s.wildcards = s.wildcards || key[0] == '.'
	}
	s.err = badSettings(bad)
	return s
}

// settingsEntry returns the normal form of a key: a host name, a wildcard or an
// IP address.
func settingsEntry(name string) (string, error) {
	if addr, err := netip.ParseAddr(name); err == nil {
		if addr.Zone() != "" {
			return "", errors.New("an IP address with a zone")
		}
		return addr.Unmap().String(), nil
	}
	if len(hosts.SplitEntry(name)) > 1 {
		return "", errors.New("several names: a group has the settings of its first name")
	}
	entry, err := hosts.ParseEntry(name)
	if bad, ok := errors.AsType[*hosts.EntryError](err); ok {
		return "", errors.New(bad.Why)
	}
	return entry, err
}

// of returns the settings of a host in normal form, and their key, or "" if it
// has none: those of its exact name, or else of the wildcard that matches it, and
// never of both. It does not allocate.
func (s *hostSettings) of(host string) (set HostSettings, key string) {
	if set, ok := s.byKey[host]; ok {
		return set, host
	}
	if !s.wildcards || hosts.IsAddress(host) {
		return HostSettings{}, ""
	}
	if i := strings.IndexByte(host, '.'); i >= 0 {
		if set, ok := s.byKey[host[i:]]; ok {
			return set, host[i:]
		}
	}
	return HostSettings{}, ""
}

// maxBadSettings is how many invalid settings an error names.
const maxBadSettings = 20

// badSettings returns the error for settings that are invalid, or nil.
func badSettings(bad []string) error {
	if len(bad) == 0 {
		return nil
	}
	if more := len(bad) - maxBadSettings; more > 0 {
		bad = append(bad[:maxBadSettings:maxBadSettings], fmt.Sprintf("and %d more", more))
	}
	return &refusal{kind: ErrBadSetting, text: strings.Join(bad, "; ")}
}

// quoted returns a user's value in an error.
func quoted(value string) string { return fmt.Sprintf("%q", text.OneLine(value, hosts.MaxLength)) }
