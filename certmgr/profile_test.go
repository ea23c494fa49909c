package certmgr_test

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
)

// withProfiles makes a CA offer Let's Encrypt's profiles.
func withProfiles(ca *acmetest.Server) {
	ca.Profiles, ca.DefaultProfile = acmetest.LetsEncryptProfiles(), "classic"
}

// withdraw takes a profile out of the CA's directory.
func withdraw(w *world, name string) *acmetest.Fault {
	return w.ca.Edit(acmetest.Match{Endpoint: acmetest.Directory}, func(r *acmetest.Reply) {
		r.EditObject(func(dir map[string]any) {
			delete(dir["meta"].(map[string]any)["profiles"].(map[string]any), name)
		})
	})
}

// profilesOf returns the profiles of the orders for a host, oldest first.
func profilesOf(w *world, host string) (names []string) {
	for _, o := range w.ca.Orders() {
		if slices.Contains(o.Hosts, host) {
			names = append(names, o.Profile)
		}
	}
	return names
}

// warningsOf returns the warnings about settings so far.
func warningsOf(w *world) []audit.Event { return w.events.of(audit.ConfigurationWarning) }

func TestOrderAsksForTheProfileOfItsHost(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.Hosts.Add("*.example.net")
		w.m.Profile = "tlsserver"
		w.m.HostSettings = map[string]certmgr.HostSettings{
			"b.example.com": {Profile: "shortlived"},
			"*.example.net": {Profile: "classic"},
			"c.example.com": {},
		}
		for host, profile := range map[string]string{
			"a.example.com": "tlsserver",
			"b.example.com": "shortlived",
			"c.example.com": "tlsserver",
			"x.example.net": "classic",
		} {
			leaf := w.mustGet(host).Leaf
			if got := profilesOf(w, host); !slices.Equal(got, []string{profile}) {
				t.Errorf("%s: orders of profiles %q, want %q", host, got, profile)
			}
			if lifetime := leaf.NotAfter.Sub(leaf.NotBefore); lifetime.Round(time.Minute) != w.ca.Profiles[profile].Lifetime {
				t.Errorf("%s: a lifetime of %s", host, lifetime)
			}
			for _, kind := range []audit.Kind{audit.IssuanceStarted, audit.CertificateIssued} {
				events := w.events.of(kind)
				if last := events[len(events)-1]; last.Host != host || last.Profile != profile {
					t.Errorf("%s: %s has the profile %q", host, kind, last.Profile)
				}
			}
			for _, st := range w.m.Snapshot().Hosts {
				if st.Host == host && st.Profile != profile {
					t.Errorf("%s: the snapshot has the profile %q", host, st.Profile)
				}
			}
		}
		if told := warningsOf(w); len(told) > 0 {
			t.Errorf("warnings: %v", told)
		}
	}, withProfiles)
}

func TestOrderWithoutAProfileLeavesTheChoiceToTheCA(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.mustGet("a.example.com")
		if got := profilesOf(w, "a.example.com"); !slices.Equal(got, []string{"classic"}) {
			t.Errorf("profiles %q", got)
		}
		started, issued := w.events.of(audit.IssuanceStarted)[0], w.events.of(audit.CertificateIssued)[0]
		if started.Profile != "" || issued.Profile != "classic" {
			t.Errorf("asked for %q, got %q", started.Profile, issued.Profile)
		}
	}, withProfiles)
}

// A profile that the CA does not offer is told once and not for each host, and
// names the field and what is offered. No order is placed with it, nothing counts
// against hosts or CA, and hosts with another profile are served.
func TestProfileThatTheCADoesNotOffer(t *testing.T) {
	for name, tt := range map[string]struct {
		set   func(ca *acmetest.Server)
		offer string
	}{
		"there are others": {withProfiles, "offers classic, shortlived, tlsserver"},
		"there are none":   {func(*acmetest.Server) {}, "offers no profiles"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.m.Profile = "shortlvied"
				w.m.HostSettings = map[string]certmgr.HostSettings{"d.example.com": {Profile: "classic"}}
				for range 3 {
					for _, host := range []string{"a.example.com", "b.example.com", "c.example.com"} {
						err := w.wantErr(host, certmgr.ErrBadSetting)
						if !errors.Is(err, certmgr.ErrBackoff) {
							t.Errorf("%v does not wrap ErrBackoff", err)
						}
						for _, says := range []string{host, `Manager.Profile "shortlvied"`, tt.offer, "next attempt"} {
							if !strings.Contains(err.Error(), says) {
								t.Errorf("the error lacks %q: %v", says, err)
							}
						}
					}
				}
				told := warningsOf(w)
				if len(told) != 1 || told[0].Rule != "Manager.Profile" || told[0].Profile != "shortlvied" || told[0].RetryAt.IsZero() ||
					!strings.Contains(told[0].Reason, tt.offer) {
					t.Errorf("warnings: %v", told)
				}
				if list := w.m.Snapshot().Warnings; len(list) != 1 || list[0] != told[0].Reason {
					t.Errorf("the snapshot's warnings are %q", list)
				}
				for _, kind := range []audit.Kind{audit.IssuanceStarted, audit.IssuanceFailed, audit.CAUnavailable} {
					if events := w.events.of(kind); len(events) > 0 {
						t.Errorf("%s: %v", kind, events)
					}
				}
				if n := w.ca.Count(acmetest.NewOrder); n > 0 {
					t.Errorf("%d orders", n)
				}
				if snap := w.m.Snapshot(); len(snap.Hosts) > 0 {
					t.Errorf("it counts against %v", snap.Hosts)
				}
				if len(w.ca.Profiles) > 0 {
					w.mustGet("d.example.com")
				}
			}, tt.set)
		})
	}
}

// The directory is read again at a pace that leaves the CA alone, however many
// visitors come, and a profile that it lists one day is used.
func TestProfileThatTheCAOffersLater(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.Profile = "shortlived"
		later := withdraw(w, "shortlived")
		for range 12 * 60 {
			w.wantErr("a.example.com", certmgr.ErrBadSetting)
			w.wantErr("b.example.com", certmgr.ErrBadSetting)
			time.Sleep(time.Minute)
		}
		if n := w.ca.Count(acmetest.Directory); n < 12 || n > 18 {
			t.Errorf("the directory was read %d times in 12 hours", n)
		}
		if n := len(warningsOf(w)); n != 1 {
			t.Errorf("%d warnings", n)
		}
		time.Sleep(13 * time.Hour)
		w.wantErr("a.example.com", certmgr.ErrBadSetting)
		if n := len(warningsOf(w)); n != 2 {
			t.Errorf("%d warnings after a day", n)
		}
		later.Lift()
		time.Sleep(2 * time.Hour)
		w.mustGet("a.example.com")
		w.mustGet("b.example.com")
		if list := w.m.Snapshot().Warnings; len(list) > 0 {
			t.Errorf("the snapshot still warns: %q", list)
		}
	}, withProfiles)
}

// A directory that cannot be read is the CA's failure, as it is without a profile:
// it is asked for once, and a Retry-After is obeyed.
func TestDirectoryThatCannotBeReadIsNotTheProfilesFault(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.Profile = "shortlived"
		header := http.Header{"Retry-After": {"30"}}
		fault := w.ca.Status(acmetest.Match{Endpoint: acmetest.Directory}, 503, header, acmetest.Problem{})
		for _, host := range []string{"a.example.com", "b.example.com"} {
			if _, err := w.get(host); errors.Is(err, certmgr.ErrBadSetting) {
				t.Error(err)
			}
		}
		if _, err := w.get("c.example.com"); !errors.Is(err, certmgr.ErrCAUnavailable) {
			t.Error(err)
		}
		if n := w.ca.Count(acmetest.Directory); n != 1 {
			t.Errorf("the directory was asked for %d times", n)
		}
		if n := len(warningsOf(w)); n > 0 {
			t.Errorf("%d warnings", n)
		}
		fault.Lift()
		time.Sleep(time.Minute)
		w.mustGet("a.example.com")
	}, withProfiles)
}

// Obtain is an operator's order to look at once.
func TestObtainLooksForTheProfileAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.Profile = "shortlived"
		later := withdraw(w, "shortlived")
		w.wantErr("a.example.com", certmgr.ErrBadSetting)
		later.Lift()
		time.Sleep(2 * time.Minute)
		w.wantErr("a.example.com", certmgr.ErrBadSetting)
		if err := w.m.Obtain(t.Context(), "a.example.com"); err != nil {
			t.Error(err)
		}
		w.mustGet("b.example.com")
	}, withProfiles)
}

// A host with a valid certificate is served by it as long as it lasts, its
// renewal is reported as late, and it is renewed when the profile is back.
func TestHostIsServedWhileItsProfileIsNotOffered(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.m.Profile = "shortlived"
		first := w.mustGet("a.example.com").Leaf
		later := withdraw(w, "shortlived")
		orders := w.ca.Count(acmetest.NewOrder)
		time.Sleep(time.Until(first.NotAfter) - time.Hour)
		if leaf := w.mustGet("a.example.com").Leaf; !leaf.Equal(first) {
			t.Error("it was renewed")
		}
		if n := w.ca.Count(acmetest.NewOrder) - orders; n > 0 {
			t.Errorf("%d orders", n)
		}
		if n := len(warningsOf(w)); n == 0 || n > 4 {
			t.Errorf("%d warnings in %s", n, 80*time.Hour)
		}
		if late := w.events.of(audit.RenewalLate); len(late) == 0 || !errors.Is(late[0].Err, certmgr.ErrBadSetting) {
			t.Errorf("late: %v", late)
		}
		if st := w.m.Snapshot().Hosts[0]; !errors.Is(st.RenewalFailure, certmgr.ErrBadSetting) || st.State != certmgr.StateValid {
			t.Errorf("the snapshot has %s, %v", st.State, st.RenewalFailure)
		}
		later.Lift()
		time.Sleep(2 * time.Hour) // it ends meanwhile
		if leaf := w.mustGet("a.example.com").Leaf; leaf.Equal(first) {
			t.Error("it was not renewed")
		}
	}, withProfiles)
}

// A CA that refuses a profile that it lists is asked by one host at a time.
func TestProfileThatTheCARefuses(t *testing.T) {
	for _, problem := range []acmetest.Problem{
		{Type: "invalidProfile", Status: 400, Detail: "not today"},
		{Type: "unauthorized", Status: 403, Detail: `account ID 1 is not permitted to use certificate profile "shortlived"`},
	} {
		t.Run(problem.Type, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.m.Profile = "shortlived"
				fault := w.ca.Status(acmetest.Match{Endpoint: acmetest.NewOrder}, problem.Status, nil, problem)
				_, err := w.get("a.example.com")
				for _, says := range []string{`Manager.Profile "shortlived" is refused by the CA`, problem.Detail[:9]} {
					if !errors.Is(err, certmgr.ErrBadSetting) || !strings.Contains(err.Error(), says) {
						t.Fatalf("the error lacks %q: %v", says, err)
					}
				}
				if problem, ok := errors.AsType[*acme.Error](err); !ok || problem.Detail == "" {
					t.Error("the CA's problem is lost")
				}
				for range 6 * 60 {
					for _, host := range []string{"a.example.com", "b.example.com", "c.example.com"} {
						go w.get(host)
					}
					synctest.Wait()
					time.Sleep(time.Minute)
				}
				if n := w.ca.Count(acmetest.NewOrder); n < 6 || n > 10 {
					t.Errorf("%d orders in 6 hours", n)
				}
				if n := len(warningsOf(w)); n != 1 {
					t.Errorf("%d warnings", n)
				}
				if n := len(w.events.of(audit.CAUnavailable)); n > 0 {
					t.Errorf("the CA is blamed %d times", n)
				}
				for _, st := range w.m.Snapshot().Hosts {
					if st.Failure != nil {
						t.Errorf("%s is blamed: %v", st.Host, st.Failure)
					}
				}
				fault.Lift()
				time.Sleep(90 * time.Minute)
				w.mustGet("a.example.com")
				w.mustGet("b.example.com")
			}, withProfiles)
		})
	}
}

// Start tells of a profile that the CA does not offer soon, though the first
// order may be weeks away.
func TestStartTellsOfAProfileThatIsNotOffered(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.mustGet("a.example.com")
		w.restart()
		w.m.Hosts = certmgr.MustAllowlist("a.example.com")
		w.m.HostSettings = map[string]certmgr.HostSettings{"a.example.com": {Profile: "long"}}
		if err := w.m.Start(t.Context()); err != nil {
			t.Error(err)
		}
		time.Sleep(2 * time.Minute)
		told := warningsOf(w)
		if len(told) != 1 || told[0].Rule != `Manager.HostSettings["a.example.com"].Profile` {
			t.Errorf("warnings: %v", told)
		}
		w.mustGet("a.example.com")
	}, withProfiles)
}

// A change of the profile applies when the certificate is due.
func TestNewProfileAppliesAtTheNextRenewal(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, w *world) {
		w.m.Profile = "tlsserver"
		first := w.mustGet("a.example.com").Leaf
		w.restart()
		w.m.Profile = "shortlived"
		if err := w.m.Start(t.Context()); err != nil {
			t.Error(err)
		}
		time.Sleep(20 * day)
		if leaf := w.mustGet("a.example.com").Leaf; !leaf.Equal(first) {
			t.Error("it was renewed at once")
		}
		time.Sleep(20 * day)
		got := profilesOf(w, "a.example.com")
		if len(got) < 2 || got[0] != "tlsserver" || slices.Contains(got[1:], "tlsserver") {
			t.Errorf("orders of profiles %q", got)
		}
		if leaf := w.mustGet("a.example.com").Leaf; leaf.NotAfter.Sub(leaf.NotBefore).Round(time.Minute) != 160*time.Hour {
			t.Errorf("a lifetime of %s", leaf.NotAfter.Sub(leaf.NotBefore))
		}
	}, withProfiles)
}

// An order that was placed with another profile before a restart is finished:
// what was ordered is not lost.
func TestUnfinishedOrderOfAnotherProfileIsFinished(t *testing.T) {
	for name, profile := range map[string]string{"another": "shortlived", "none that is offered": "long"} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.m.Profile = "tlsserver"
				fault := w.ca.Drop(acmetest.Match{Endpoint: acmetest.Certificate})
				if _, err := w.get("a.example.com"); err == nil {
					t.Fatal("no fault")
				}
				time.Sleep(attemptTimeout)
				w.restart()
				fault.Lift()
				w.m.Profile = profile
				w.mustGet("a.example.com")
				if got := profilesOf(w, "a.example.com"); !slices.Equal(got, []string{"tlsserver"}) {
					t.Errorf("orders of profiles %q", got)
				}
				if issued := w.events.of(audit.CertificateIssued); len(issued) != 1 || issued[0].Profile != "tlsserver" {
					t.Errorf("issued: %v", issued)
				}
			}, withProfiles)
		})
	}
}
