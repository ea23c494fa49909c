package acmeclient

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/acme"
)

// Profiles are the profiles (draft-ietf-acme-profiles) that a CA's directory
// lists. The zero value is for a directory that is not known.
type Profiles struct {
	byName map[string]string // descriptions
	Known  bool              // the directory was fetched
	At     time.Time         // when
}

// Has reports whether the directory lists a profile.
func (p Profiles) Has(name string) bool {
	_, ok := p.byName[name]
	return ok
}

// Names returns the names of the profiles in order. A CA may list any number.
func (p Profiles) Names() []string { return slices.Sorted(maps.Keys(p.byName)) }

// Profiles returns the profiles of the directory as it was last fetched. It
// makes no request.
func (ca *CA) Profiles() Profiles {
	d := ca.directory
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.doc == nil {
		return Profiles{}
	}
	return Profiles{byName: d.doc.Meta.Profiles, Known: true, At: d.fetchedAt}
}

// ReadDirectory fetches the directory, whatever its age, for the use of all. If
// that fails, the one known before stays in use; without one, the request is sent
// again as in an attempt, and the error wraps the CA's *acme.Error or a
// *RequestError.
func ReadDirectory(ctx context.Context, ca *CA) error {
	ca.directory.expire()
	_, err := ca.Client(nil, "").Discover(ctx)
	return Cause(err)
}

// IsBadProfile reports whether a problem is about the profile of an order: the
// CA has none by that name, or not for this account, for which Boulder has no
// type of its own.
func IsBadProfile(p *acme.Error) bool {
	switch kindOf(p.ProblemType) {
	case "invalidprofile":
		return true
	case "unauthorized":
		return strings.Contains(p.Detail, "not permitted to use certificate profile")
	}
	return false
}
