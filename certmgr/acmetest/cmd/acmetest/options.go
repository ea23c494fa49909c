package main

import (
	"cmp"
	"encoding/base64"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/publicsuffix"

	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/acmetest/dnstest"
)

// options are the flags that are not fields of the CA.
type options struct {
	addr, root, rootKey string
	target              netip.Addr
	httpPort, tlsPort   int
	dns                 dnstest.Server
	management          string
}

// parse reads the flags.
func parse(ca *acmetest.Server, args []string, stderr io.Writer) (*options, error) {
	o := &options{target: netip.MustParseAddr("127.0.0.1")}
	f := flag.NewFlagSet("acmetest", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.StringVar(&o.addr, "addr", "127.0.0.1:14000", "`host:port` to listen on")
	f.StringVar(&ca.Hostname, "hostname", "", "`name` or address in the CA's URLs; default: the address it listens on")
	f.StringVar(&o.root, "root", "acmetest-root.pem", "`file` that the root is written to")
	f.StringVar(&o.rootKey, "root-key", "", "`file` for the root's key: with it, and that of -root, the root is kept for later runs")
	f.TextVar(&o.target, "target", o.target, "`address` that names lead to")
	f.IntVar(&o.httpPort, "http-port", 5002, "`port` where http-01 is validated")
	f.IntVar(&o.tlsPort, "tls-port", 5001, "`port` where tls-alpn-01 is validated")
	f.StringVar(&o.dns.Addr, "dns", "", "`host:port` for a DNS server, UDP and TCP, with the CA's records and for RFC 2136")
	f.Func("tsig", "`name:secret` of a key for updates at -dns, in base64; may be repeated; default: updates are unsigned", func(text string) error {
		return addKey(&o.dns.Keys, text, base64.StdEncoding)
	})
	f.StringVar(&ca.DNSServer, "dns-server", "", "`host:port` of the DNS server that dns-01 is validated with")
	f.StringVar(&o.management, "management", "", "`host:port` for the management of records; anybody who reaches it may do that")
	f.DurationVar(&ca.Lifetime, "lifetime", 90*24*time.Hour, "lifetime of certificates")
	f.Func("challenges", "`types` of challenges on offer, separated by commas; default: all", func(text string) error {
		ca.Challenges = strings.Split(text, ",")
		return nil
	})
	f.Func("eab", "`id:key` of an external account, the key in base64url; may be repeated; default: none is needed", func(text string) error {
		return addKey(&ca.EAB, text, base64.RawURLEncoding)
	})
	f.Func("profiles", "profiles on offer: letsencrypt", func(text string) error {
		ca.Profiles, ca.DefaultProfile = acmetest.LetsEncryptProfiles(), cmp.Or(ca.DefaultProfile, "classic")
		return onlyLetsEncrypt(text)
	})
	f.StringVar(&ca.DefaultProfile, "default-profile", "", "`name` of the profile of orders that request none; default: classic with -profiles")
	f.Func("rate-limits", "rate limits: letsencrypt", func(text string) error {
		ca.RateLimits = acmetest.LetsEncryptRateLimits()
		ca.RateLimits.RegisteredDomain = publicsuffix.EffectiveTLDPlusOne
		return onlyLetsEncrypt(text)
	})
	f.StringVar(&ca.Terms, "terms", "", "`URL` of the terms of service that accounts must agree to")
	f.BoolVar(&ca.ReuseAuthorizations, "reuse-authorizations", false, "reuse valid authorizations, as public CAs do")
	f.IntVar(&ca.AlternateChains, "alternate-chains", 0, "`number` of alternate chains")
	f.DurationVar(&ca.Processing, "processing", 0, "how long orders are processed")
	f.BoolFunc("validate-in-reply", "validate before the reply to an accepted challenge", func(text string) error {
		on, err := strconv.ParseBool(text)
		if on {
			ca.ValidateInReply = acmetest.Always
		}
		return err
	})
	f.BoolVar(&ca.NoRenewalInfo, "no-renewal-info", false, "offer no renewal information (RFC 9773)")
	f.BoolVar(&ca.RetryAfterDates, "retry-after-dates", false, "send Retry-After as a date")
	badNonces := f.Float64("bad-nonces", 0, "`rate` of refused nonces, from 0 to 1")
	skew := f.Duration("clock-skew", 0, "how far the CA's clock is ahead")
	quiet := f.Bool("quiet", false, "do not log requests")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if f.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q: all settings are flags, see -help", f.Arg(0))
	}
	if *badNonces < 0 || *badNonces > 1 {
		return nil, fmt.Errorf("-bad-nonces is %v, want a rate from 0 to 1", *badNonces)
	}
	ca.BadNonceRate(*badNonces)
	ca.SetClockSkew(*skew)
	if !*quiet {
		ca.OnRequest = requestLog(stderr)
	}
	return o, nil
}

func onlyLetsEncrypt(text string) error {
	if text != "letsencrypt" {
		return fmt.Errorf("want letsencrypt")
	}
	return nil
}

// addKey adds a key in the form name:secret. Padding may be missing.
func addKey(keys *map[string][]byte, text string, encoding *base64.Encoding) error {
	name, secret, ok := strings.Cut(text, ":")
	key, err := encoding.WithPadding(base64.NoPadding).DecodeString(strings.TrimRight(secret, "="))
	if !ok || name == "" || err != nil || len(key) == 0 {
		return fmt.Errorf("want a name, a colon, and a key in base64") // without the key, which is secret
	}
	if *keys == nil {
		*keys = make(map[string][]byte)
	}
	(*keys)[name] = key
	return nil
}

// requestLog returns a function that writes each request as a line.
func requestLog(w io.Writer) func(acmetest.Request) {
	var mu sync.Mutex
	return func(r acmetest.Request) {
		line := fmt.Sprintf("%s %-4s %-13s %d", r.Time.Format("15:04:05.000"), r.Method, r.Endpoint, r.Status)
		if r.Host != "" {
			line += " " + r.Host
		}
		if r.Problem != "" {
			line += fmt.Sprintf(" %s: %q", r.Problem, r.Detail)
		}
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintln(w, line)
	}
}

// resolve makes a name lead to an address.
func (o *options) resolve(ca *acmetest.Server, name string, addr netip.Addr) {
	at := func(port int) string { return net.JoinHostPort(addr.String(), strconv.Itoa(port)) }
	ca.Resolve(name, acmetest.Target{HTTPAddr: at(o.httpPort), TLSAddr: at(o.tlsPort)})
}
