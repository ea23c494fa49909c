package certmgr_test

import (
	"context"
	"crypto"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/preflight"
)

// situationsOfErrors are those of the sentinels.
func situationsOfErrors() []situation {
	var policyFault error
	return []situation{
		{entry: "ErrNoServerName", is: certmgr.ErrNoServerName, provoke: func(w *world) error { _, err := w.get(""); return err }, says: []string{"SNI"}},
		{entry: "ErrBadServerName", is: certmgr.ErrBadServerName, provoke: func(w *world) error { _, err := w.get("192.0.2.1"); return err }, says: []string{"IP address"}},
		{
			entry: "ErrHostNotAllowed", is: certmgr.ErrHostNotAllowed,
			provoke: func(w *world) error { w.m.Hosts.Remove(visited); return visitHost(w) },
			fix:     func(w *world) error { return w.m.Hosts.Because("it is ours").Add(visited) },
		},
		{
			entry: "ErrHostNotAllowed", about: "nobody is allowed", is: certmgr.ErrHostNotAllowed,
			says:    []string{"neither Manager.Hosts nor Manager.HostPolicy is set"},
			provoke: func(w *world) error { w.m.Hosts = nil; return visitHost(w) },
			fix:     func(w *world) error { w.restart(); return nil },
		},
		{
			entry: "ErrPolicy", is: certmgr.ErrPolicy,
			provoke: func(w *world) error {
				policyFault = fmt.Errorf("%w: the database is down", certmgr.ErrPolicy)
				w.m.Hosts, w.m.HostPolicy = nil, func(context.Context, string) error { return policyFault }
				return visitHost(w)
			},
			fix: func(*world) error { policyFault = nil; return nil },
		},
		byFault(situation{entry: "ErrInFlight", is: certmgr.ErrInFlight, says: []string{"since"}, provoke: func(w *world) error {
			go visitHost(w)
			synctest.Wait()
			return visitHost(w)
		}}, func(w *world) *acmetest.Fault { return w.ca.Stall(acmetest.Match{Endpoint: acmetest.NewOrder}) }, wait(5*time.Minute)),
		byFault(situation{entry: "ErrBackoff", is: certmgr.ErrBackoff, provoke: twice}, refuses(acmetest.Problem{}), retry),
		byFault(situation{entry: "ErrCAUnavailable", is: certmgr.ErrCAUnavailable, provoke: twice}, caIsDown, retry),
		byDNS(situation{entry: "ErrUnreachable", is: certmgr.ErrUnreachable}, preflight.Enforce),
		{
			entry: "ErrNoAccount", is: certmgr.ErrNoAccount,
			provoke: func(w *world) error { w.m.Email = "not an address"; return twice(w) },
			fix:     func(w *world) error { w.restart(); return nil },
		},
		{
			entry: "ErrBadSetting", is: certmgr.ErrBadSetting, says: []string{"Manager.Profile", "is not offered by the CA"},
			provoke: func(w *world) error { w.m.Profile = "shortlived"; return visitHost(w) },
			fix:     func(w *world) error { w.restart(); return nil },
		},
		{
			entry: "ErrKeySource", is: certmgr.ErrKeySource, says: []string{"KeySource"},
			provoke: func(w *world) error { w.m.KeySource = failingKeys; return visitHost(w) },
			fix:     func(w *world) error { w.restart(); return retry(w) },
		},
		byClock(situation{entry: "ErrClock", is: certmgr.ErrClock}),
		byCache(situation{entry: "ErrCache", is: certmgr.ErrCache}, func(context.Context, string) error { return errors.New("the disk is on fire") }),
		{entry: "ErrCacheMiss", is: certmgr.ErrCacheMiss, says: []string{"tls-alpn-01"}, provoke: func(w *world) error {
			_, err := w.m.GetCertificate(&tls.ClientHelloInfo{ServerName: visited, SupportedProtos: []string{acme.ALPNProto}})
			return err
		}},
		{
			entry: "ErrBusy", is: certmgr.ErrBusy, says: []string{"handshakes are already waiting", "MaxWaiting"},
			provoke: func(w *world) error {
				w.m.MaxWaiting = -1
				w.cache.get(func(context.Context, string) error { w.cache.hang(); return nil })
				go visitHost(w)
				synctest.Wait()
				return visitHost(w)
			},
			fix: func(w *world) error { w.cache.get(nil); w.cache.release(); time.Sleep(time.Minute); return nil },
		},
		{
			entry: "ErrClosed", is: certmgr.ErrClosed,
			provoke: func(w *world) error { w.m.Close(); return visitHost(w) },
			fix:     func(w *world) error { w.m = w.manager(); w.reach(); return nil },
		},
	}
}

func failingKeys(context.Context, string) (crypto.Signer, error) {
	return nil, errors.New("the module is on fire")
}

// situationsOfEvents are those of events that are failures.
func situationsOfEvents() []situation {
	refused := acmetest.Problem{Type: "unauthorized", Detail: "no"}
	caa := acmetest.Problem{Type: "caa", Detail: "CAA record for example.com prevents issuance"}
	var path string
	return []situation{
		byFault(situation{entry: "issuance_failed"}, refuses(refused), retry),
		byFault(situation{entry: "issuance_failed", about: "rejected by CAA", says: []string{"CAA records", "do not allow", "rejected"}}, refuses(caa), retry),
		byFault(situation{entry: "issuance_failed", about: "paused", says: []string{"paused", "explanation_url"}}, func(w *world) *acmetest.Fault {
			return w.ca.Status(acmetest.Match{Endpoint: acmetest.NewOrder}, http.StatusTooManyRequests, nil,
				acmetest.Problem{Type: "rateLimited", Detail: "Your account is temporarily prevented from requesting certificates for " + visited + ". Please visit: " + unpauseLink})
		}, retry),
		byFault(situation{entry: "certificate_expired", provoke: expiring(11)}, served(caIsDown), renew),
		byFault(situation{entry: "renewal_late", provoke: expiring(9)}, served(caIsDown), renew),
		byFault(situation{entry: "ca_unavailable"}, caIsDown, retry),
		{
			entry: "account_unavailable", about: "a setting", says: []string{"Manager.Email"},
			provoke: func(w *world) error { w.m.Email = "not an address"; return visitHost(w) },
			fix:     func(w *world) error { w.restart(); return nil },
		},
		{
			entry: "account_unavailable", about: "deactivated", says: []string{"acme_account+key", "deactivated"},
			provoke: func(w *world) error {
				w.mustGet("b.example.com")
				w.ca.DeactivateAccount(w.account().URL)
				return visitHost(w)
			},
			fix: func(w *world) error { w.cache.Cache.Delete(w.t.Context(), "acme_account+key"); return retry(w) },
		},
		{
			entry:   "orders_rationed",
			provoke: func(w *world) error { w.m.OrderBudget = 1; w.mustGet("b.example.com"); return visitHost(w) },
			fix:     wait(3 * time.Hour),
		},
		byDNS(situation{entry: "waiting_for_dns", says: []string{"leads"}}, preflight.Enforce),
		byFault(byDNS(situation{entry: "host_unreachable", says: []string{"leads to", "allowed"}}, preflight.Report), refuses(refused), retry),
		{
			entry: "challenge_failed", about: "NextProtos is empty", says: []string{"does not offer its protocol", "NextProtos"},
			provoke: func(w *world) error {
				w.ca.Resolve("*", acmetest.Target{TLSConfig: &tls.Config{GetCertificate: w.m.GetCertificate}})
				return visitHost(w)
			},
			fix: func(w *world) error { w.reach(); return retry(w) },
		},
		{
			entry: "challenge_failed", about: "NextProtos lacks the protocol", says: []string{"does not offer its protocol", "NextProtos"},
			provoke: func(w *world) error {
				w.ca.Resolve("*", acmetest.Target{TLSConfig: &tls.Config{GetCertificate: w.m.GetCertificate, NextProtos: []string{"h2", "http/1.1"}}})
				return visitHost(w)
			},
			fix: func(w *world) error { w.reach(); return retry(w) },
		},
		{
			entry: "challenge_failed", about: "the name leads elsewhere", says: []string{"reached this process"},
			provoke: func(w *world) error { w.ca.Resolve("*", acmetest.Target{}); return visitHost(w) },
			fix:     func(w *world) error { w.reach(); return retry(w) },
		},
		byFault(situation{entry: "challenge_failed", about: "from several places", says: []string{"reached this process", "got another answer too"}},
			func(w *world) *acmetest.Fault { return w.ca.FailSecondaryValidation(visited, "", refused) }, retry),
		byFault(situation{entry: "challenge_failed", about: "CAA", says: []string{"CAA records"}}, refuses(caa), retry),
		byFault(situation{entry: "backoff_restored", provoke: func(w *world) error {
			visitHost(w)
			w.spendExtras(visited)
			w.restart()
			return visitHost(w)
		}}, refuses(refused), retry),
		byClock(situation{entry: "clock_off"}),
		{
			entry: "policy_failed",
			provoke: func(w *world) error {
				w.m.Hosts, w.m.HostPolicy = nil, func(ctx context.Context, _ string) error { <-ctx.Done(); return ctx.Err() }
				return visitHost(w)
			},
			fix: func(w *world) error { w.restart(); return nil },
		},
		byCache(situation{entry: "cache_read_failed"}, func(context.Context, string) error { return errors.New("the disk is on fire") }),
		{
			entry: "cache_unavailable",
			provoke: func(w *world) error {
				store := &leasing{Cache: w.cache}
				store.down(true)
				w.m.Cache = store
				for _, host := range []string{visited, "b.example.com", "c.example.com"} {
					w.get(host)
				}
				time.Sleep(2 * time.Second)
				_, err := w.get(visited)
				return err
			},
			fix: func(w *world) error {
				w.m.Cache.(*leasing).down(false)
				time.Sleep(20 * time.Second)
				if len(w.events.of(audit.CacheAvailable)) == 0 {
					return errors.New("it has not ended")
				}
				return nil
			},
		},
		{
			entry: "cache_write_failed",
			provoke: func(w *world) error {
				w.cache.put(func(_ context.Context, key string) error {
					if key == visited {
						return errors.New("no space left on device")
					}
					return nil
				})
				return visitHost(w)
			},
			fix: func(w *world) error {
				w.cache.put(nil)
				time.Sleep(10 * time.Minute)
				if len(w.events.of(audit.CacheWriteRecovered)) == 0 {
					return errors.New("the write was not retried")
				}
				w.restart()
				return nil
			},
		},
		{entry: "cache_entry_rejected", provoke: func(w *world) error { w.keep(visited, []byte("garbage")); return visitHost(w) }, fix: wait(0)},
		{entry: "configuration_warning", says: []string{"no host is allowed"}, provoke: func(w *world) error { w.m.Hosts = nil; return visitHost(w) }},
		{
			entry: "configuration_warning", about: "a profile", says: []string{"is not offered by the CA"},
			provoke: func(w *world) error { w.m.Profile = "shortlived"; return visitHost(w) },
			fix:     func(w *world) error { w.restart(); return nil },
		},
		{
			entry:   "certificate_untrusted",
			provoke: func(w *world) error { w.keep(visited, issuedBy(visited, letsEncryptStaging)); return visitHost(w) },
			fix: func(w *world) error {
				time.Sleep(10 * time.Minute)
				if len(w.events.of(audit.CertificateIssued)) == 0 {
					return errors.New("it was not replaced")
				}
				return nil
			},
		},
		withdrawn(),
		{entry: "operator_action_failed", provoke: func(w *world) error {
			_, err := w.m.Act(w.t.Context(), certmgr.Action{Kind: certmgr.ActionRetry, Host: "other.example.net", Actor: "alice", RemoteAddr: "192.0.2.1:1"})
			return err
		}},
		byCache(situation{entry: "callback_panicked"}, func(context.Context, string) error { panic("a bug") }),
		{
			entry: "allowlist_rejected",
			provoke: func(w *world) error {
				path = writeHosts(w.t, visited+"\n")
				list, err := certmgr.OpenAllowlist(path)
				if err != nil {
					return err
				}
				w.m.Hosts = list
				visitHost(w)
				rewrite(w.t, path, visited+"\nnot a host\n")
				return list.Reload()
			},
			fix: func(w *world) error { rewrite(w.t, path, visited+"\n"); return w.m.Hosts.Reload() },
		},
		byFault(situation{entry: "account_contact_failed", provoke: func(w *world) error {
			w.restart()
			w.m.Email = "new@example.com"
			return visitHost(w)
		}}, func(w *world) *acmetest.Fault {
			w.m.Email = "old@example.com"
			w.mustGet("b.example.com")
			return w.ca.Status(acmetest.Match{Endpoint: acmetest.UpdateAccount}, http.StatusForbidden, nil, refused)
		}, wait(0)),
		{entry: "events_dropped", provoke: func(w *world) error {
			release := make(chan struct{})
			w.m.Audit = func(ctx context.Context, e audit.Event) { <-release; w.events.hook(ctx, e) }
			visitHost(w)
			for i := range 5000 {
				w.m.Hosts.Because("a test").Add(fmt.Sprintf("h%d.example.org", i))
			}
			close(release)
			return nil
		}, fix: wait(0)},
		byFault(situation{entry: "member_failed", provoke: func(w *world) error {
			w.group(visited, "b.example.com")
			w.mustGet("b.example.com")
			return visitHost(w)
		}}, refuses(acmetest.Problem{}), retry),
		{entry: "delivery_failed", provoke: func(w *world) error {
			w.m.Issued = certmgr.RetryIssued(func(context.Context, *tls.Certificate) error { return errors.New("permission denied") })
			return visitHost(w)
		}, fix: wait(0)},
	}
}

// section returns the section of the runbook with a heading.
func section(t *testing.T, text, heading string) string {
	t.Helper()
	_, rest, found := strings.Cut(text, "\n### "+heading+"\n")
	if !found {
		t.Fatalf("the runbook has no entry %q", heading)
	}
	rest, _, _ = strings.Cut(rest, "\n### ")
	return rest
}

// wordsOf returns the words of a section and of those that it links to.
func wordsOf(t *testing.T, text, heading string) string {
	t.Helper()
	own := section(t, text, heading)
	words := own
	for _, m := range regexp.MustCompile(`\[((?:Certmgr|Err)\w+|[a-z_]+)\]\(#(\w+)\)`).FindAllStringSubmatch(own, -1) {
		if strings.EqualFold(m[1], m[2]) {
			words += section(t, text, m[1])
		}
	}
	return strings.Join(strings.Fields(strings.ReplaceAll(words, "`", "")), " ")
}

// fieldsToLookAt returns the fields of its own event that "Look at" in a section
// names.
func fieldsToLookAt(t *testing.T, text, heading string) (fields []string) {
	t.Helper()
	_, rest, _ := strings.Cut(section(t, text, heading), "- **Look at:**")
	rest, _, _ = strings.Cut(rest, "\n- **")
	for _, m := range regexp.MustCompile("`([a-z_]+)`").FindAllStringSubmatch(rest, -1) {
		if slices.Contains([]string{"error", "reason", "retry_at", "stack", "actor", "remote_addr"}, m[1]) {
			fields = append(fields, m[1])
		}
	}
	return fields
}

// happened returns the error or the event of a situation, and checks that the
// event has what the runbook has readers look at.
func happened(t *testing.T, w *world, s situation, err error, text string) string {
	t.Helper()
	if s.is != nil {
		if !errors.Is(err, s.is) {
			t.Fatalf("got %v, want %v", err, s.is)
		}
		return certmgr.InFull(err).Error()
	}
	events := w.events.of(audit.Kind(s.entry))
	if len(events) == 0 {
		t.Fatalf("there is no such event; the error is %v", err)
	}
	data, err := json.Marshal(events[0])
	var fields map[string]any
	if err := errors.Join(err, json.Unmarshal(data, &fields)); err != nil {
		t.Fatal(err)
	}
	for _, name := range fieldsToLookAt(t, text, s.entry) {
		if fields[name] == nil {
			t.Errorf("the runbook has readers look at %q, and the event has none: %s", name, data)
		}
	}
	return string(data)
}

// Each error and each event that is a failure is provoked. What the runbook says
// of it is there, and what it says to do helps.
func TestRunbookHoldsWhenItsEntriesAreProvoked(t *testing.T) {
	quietLog(t)
	text, _ := runbook(t)
	covered := make(map[string]bool)
	for _, s := range slices.Concat(situationsOfErrors(), situationsOfEvents(), situationsOfOwn()) {
		covered[s.entry] = true
		t.Run(strings.TrimSuffix(s.entry+": "+s.about, ": "), func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				err := s.provoke(w)
				found := happened(t, w, s, err, text)
				entry := wordsOf(t, text, s.entry)
				for _, words := range s.says {
					if !strings.Contains(entry, words) || !strings.Contains(found, words) {
						t.Errorf("%q: in the entry %v, in what happened %v: %s", words, strings.Contains(entry, words), strings.Contains(found, words), found)
					}
				}
				if s.fix == nil {
					return
				}
				if err := s.fix(w); err != nil {
					t.Errorf("what the runbook says to do: %v", err)
				}
				w.mustGet(visited)
			}, func(ca *acmetest.Server) { ca.Lifetime = 10 * day })
		})
	}
	for _, name := range sentinels(t) {
		if !covered[name] {
			t.Errorf("%s is not provoked", name)
		}
	}
	for _, kind := range audit.Kinds() {
		if (audit.Event{Kind: kind}).IsFailure() && !covered[string(kind)] {
			t.Errorf("%s is not provoked", kind)
		}
	}
}
