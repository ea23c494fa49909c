package certmgr

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/acmeclient"
	"github.com/nostall/nostall/internal/flight"
	"github.com/nostall/nostall/internal/pace"
	"github.com/nostall/nostall/internal/text"
)

// profiles tells which profile the orders for a subject ask for, and remembers
// those that the CA does not offer. The settings are to blame for that, and
// neither the host nor the CA: nothing is ordered with such a profile, and from
// time to time it is looked whether the CA offers it now.
//
// A profile is no part of a subject. Two machines with different settings, or one
// before and after a restart, have the same locks, flights and cache entries, and
// a certificate with another profile is as good until it is due.
type profiles struct {
	*env
	ca    *acmeclient.CA
	reads *flight.Flight[string, error] // of the directory, and why they failed

	mu      sync.Mutex
	lacking map[string]*lackingProfile // by name; at most as many as the settings name
}

// lackingProfile is a profile that the CA does not offer. Times are by the
// monotonic clock.
type lackingProfile struct {
	first   profile // with the field that was found first
	why     string
	cause   error         // the CA's refusal, or nil if the directory does not list the profile
	tries   int           // how often that was found
	until   time.Duration // nothing is asked of the CA before
	told    time.Duration // the last event; 0 if there was none
	refused bool          // the CA refused it, whatever the directory lists
}

// chosenProfile is the profile of an issuance.
type chosenProfile struct {
	name string // that its orders ask for, or ""

	// failure is why the CA's directory could not be read. The attempt ends with
	// it, and does not ask again at once.
	failure error
}

const (
	// profilesAge is the age from which the directory is read again if it does not
	// list a profile.
	profilesAge = time.Minute

	// lackingFirst is the wait before the CA is asked again about a profile that it
	// does not offer. It doubles up to lackingMost.
	lackingFirst = 10 * time.Minute
	lackingMost  = time.Hour

	// maxProfileNames is how many of the CA's profiles an error names, and
	// maxProfileName the length of each.
	maxProfileNames = 8
	maxProfileName  = 32
)

func newProfiles(e *env, ca *acmeclient.CA, w *flight.Waiters) *profiles {
	return &profiles{
		env:     e,
		ca:      ca,
		reads:   flight.Named[error](e.tasks, w),
		lacking: make(map[string]*lackingProfile),
	}
}

// of returns the profile for a subject: that of the host, or of the Manager. It is
// the only place that knows.
func (p *profiles) of(sub subject) profile {
	if set, key := p.settings.settingsOf(sub.host()); set.Profile != "" {
		return hostProfile(set.Profile, key)
	}
	if p.settings.profile != "" {
		return profile{p.settings.profile, "Manager.Profile"}
	}
	return profile{}
}

// check returns an error while a subject's profile is known as one that the CA
// does not offer. It makes no request.
func (p *profiles) check(sub subject) error {
	want := p.of(sub)
	if want.name == "" {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if l := p.lacking[want.name]; l != nil && p.ran() < l.until {
		return p.refusal(sub.host(), want, l)
	}
	return nil
}

// pass returns the profile for an attempt that is about to begin, or an error if
// the CA does not offer it. Once the CA has refused it, one attempt at a time
// passes. An operator's passes in any case.
func (p *profiles) pass(ctx context.Context, sub subject, override bool) (profile, error) {
	if !override {
		if err := p.check(sub); err != nil {
			return p.of(sub), err
		}
	}
	want, err := p.listed(ctx, sub)
	if err != nil {
		return want, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if l := p.lacking[want.name]; l != nil && l.refused {
		l.until = max(l.until, p.ran()+attemptTimeout)
	}
	return want, nil
}

// listed returns the profile for a subject, or an error: one that wraps
// ErrBadSetting if the CA's directory does not list it, or why the directory could
// not be read, if it is not known.
func (p *profiles) listed(ctx context.Context, sub subject) (profile, error) {
	want := p.of(sub)
	if want.name == "" {
		return p.unset(ctx, sub)
	}
	list, err := p.list(ctx, want.name)
	switch {
	case !list.Known:
		return want, err
	case !list.Has(want.name):
		return want, p.found(sub.host(), want, list, nil)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if l := p.lacking[want.name]; l != nil && !l.refused {
		delete(p.lacking, want.name)
	}
	return want, nil
}

// list returns the profiles of the directory. It reads it again if the one that
// is known does not list name, and returns why that failed.
func (p *profiles) list(ctx context.Context, name string) (acmeclient.Profiles, error) {
	list := p.ca.Profiles()
	if list.Has(name) || list.Known && time.Since(list.At) < profilesAge {
		return list, nil
	}
	return p.read(ctx)
}

// read reads the directory again. Those who want that at once share a request,
// and its failure: none of them asks again.
func (p *profiles) read(ctx context.Context) (acmeclient.Profiles, error) {
	failure, _ := p.reads.Do(ctx, p.dir, func(ctx context.Context) (error, error) {
		return acmeclient.ReadDirectory(ctx, p.ca), nil
	})
	return p.ca.Profiles(), failure
}

// accepted notes that the CA accepted an order with the profile of a subject.
func (p *profiles) accepted(sub subject) {
	if name := p.of(sub).name; name != "" {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.lacking, name)
	}
}

// explain returns the error of an attempt for a subject. If the CA refused the
// profile, the error blames the setting.
func (p *profiles) explain(ctx context.Context, sub subject, err error) error {
	want := p.of(sub)
	if want.name == "" || !slices.ContainsFunc(text.Problems(err), acmeclient.IsBadProfile) {
		return err
	}
	list, _ := p.read(ctx)
	return p.found(sub.host(), want, list, err)
}

// found notes that the CA does not offer a profile, or refused it because of
// cause. It returns the error for a host.
func (p *profiles) found(host string, want profile, list acmeclient.Profiles, cause error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	ran := p.ran()
	l := p.lacking[want.name]
	if l == nil {
		l = &lackingProfile{first: want}
		p.lacking[want.name] = l
	}
	l.refused, l.cause, l.why = cause != nil, cause, "is not offered by the CA, which "+offer(list)
	if l.refused {
		l.why = "is refused by the CA"
	}
	if l.tries == 0 || ran >= l.until || l.refused {
		l.tries++
		wait := min(lackingFirst<<min(l.tries-1, 8), lackingMost)
		l.until = ran + pace.Jitter(wait)
	}
	if l.told == 0 || ran-l.told >= remindEvery {
		l.told = max(ran, 1)
		p.audit.Emit(audit.Event{
			Kind:    audit.ConfigurationWarning,
			CA:      p.dir,
			Profile: want.name,
			Rule:    want.field,
			Reason:  l.warning(),
			RetryAt: p.now().Add(l.until - ran),
			Err:     cause,
		})
	}
	return p.refusal(host, want, l)
}

// refusal returns the error for a host whose profile is lacking. p.mu is held.
func (p *profiles) refusal(host string, want profile, l *lackingProfile) error {
	return &caRefusal{
		refusal{kind: ErrBadSetting, host: host, text: l.text(want), cause: l.cause},
		p.now().Add(l.until - p.ran()),
	}
}

// text says what is wrong with a profile.
func (l *lackingProfile) text(want profile) string {
	return fmt.Sprintf("%s %s %s", want.field, quoted(want.name), l.why)
}

// warning says what to do, too.
func (l *lackingProfile) warning() string {
	return l.text(l.first) + "; correct the field and restart: until then nothing is ordered with this profile, and certificates are served for as long as they are valid"
}

// offer says which profiles a directory lists.
func offer(list acmeclient.Profiles) string {
	names := list.Names()
	if len(names) == 0 {
		return "offers no profiles"
	}
	more := len(names) - maxProfileNames
	if more > 0 {
		names = names[:maxProfileNames]
	}
	for i, name := range names {
		names[i] = text.OneLine(name, maxProfileName)
	}
	if more > 0 {
		names = append(names, fmt.Sprintf("%d more", more))
	}
	return "offers " + strings.Join(names, ", ")
}

// checkAll looks whether the CA offers the profiles of the settings, and tells of
// those that it does not: the first order may be weeks away.
func (p *profiles) checkAll(ctx context.Context) {
	for _, want := range p.settings.profiles.all {
		if list, _ := p.list(ctx, want.name); list.Known && !list.Has(want.name) {
			p.found("", want, list, nil)
		}
	}
}

// warnings are about the profiles that are lacking now.
func (p *profiles) warnings() (list []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(p.lacking)) {
		list = append(list, p.lacking[name].warning())
	}
	return list
}
