package cases

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
)

// life is that of a server: its first certificate, changes of its account's key,
// a renewal, a restart. One call of the Cache or of the CA has a fault, which
// may end the process at once: then another one carries on.
type life struct {
	t      *T
	ca     *acmetest.Server
	around *surroundings
	events *recorder

	process  *link
	m        *certmgr.Manager
	failures []string      // what users of the Manager were told, except that an issuance is in flight
	longest  time.Duration // that a visitor waited for a certificate
}

// restart starts a process.
func (l *life) restart() {
	l.process = l.around.newLink()
	l.m = &certmgr.Manager{
		Prompt: certmgr.AcceptTOS,
		Cache:  l.process,
		Hosts:  certmgr.MustAllowlist(host),
		Client: &acme.Client{DirectoryURL: l.ca.URL, HTTPClient: &http.Client{Transport: l.process}},
		Audit:  l.events.hook,

		HandshakeWait: 10 * time.Second, // the default of TLS stacks, also for hellos made by hand
	}
	process, m, handler := l.process, l.m, l.m.HTTPHandler(nil)
	l.ca.Resolve(host, acmetest.Target{
		TLSConfig: &tls.Config{
			NextProtos: []string{acme.ALPNProto},
			GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
				if process.isDead() {
					return nil, errKilled
				}
				return m.GetCertificate(hello)
			},
		},
		HTTPHandler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if process.isDead() {
				panic(http.ErrAbortHandler)
			}
			handler.ServeHTTP(w, r)
		}),
	})
}

// act runs a part of a life. If the process is killed meanwhile, the next one
// starts, and runs it again.
func (l *life) act(part func(ctx context.Context)) {
	for {
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			part(ctx)
		}()
		select {
		case <-ended:
		case <-l.process.dead:
		}
		cancel()
		if !l.process.isDead() {
			<-ended
			return
		}
		l.m.Close() // without effect
		<-ended
		time.Sleep(10 * time.Second)
		l.restart()
	}
}

// visit makes handshakes until one is served.
func (l *life) visit(ctx context.Context) {
	begin := time.Now()
	for {
		_, err := l.m.GetCertificate(hello(host))
		took := time.Since(begin)
		if err == nil {
			l.longest = max(l.longest, took)
			return
		}
		if took > time.Hour {
			l.t.Errorf("no certificate in %v: %v", took, err)
			return
		}
		if pause(ctx, 10*time.Second) != nil {
			return
		}
		if !errors.Is(err, certmgr.ErrInFlight) {
			l.failures = append(l.failures, "")
		}
	}
}

// operate calls a method of the Manager as an operator does, who tries again
// when it fails.
func (l *life) operate(what string, method func(ctx context.Context) error) {
	l.act(func(ctx context.Context) {
		var err error
		for range 5 {
			if err = method(ctx); err == nil || pause(ctx, time.Minute) != nil {
				return
			}
			l.failures = append(l.failures, err.Error())
		}
		l.t.Errorf("%s failed 5 times: %v", what, err)
	})
}

// changeKey changes the account's key.
func (l *life) changeKey() {
	l.operate("RollAccountKey", func(ctx context.Context) error { return l.m.RollAccountKey(ctx) })
}

// wait lets time pass.
func (l *life) wait(d time.Duration) {
	l.act(func(ctx context.Context) { pause(ctx, d) })
}

// pause is a sleep that ends with ctx.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// lifetime is that of the certificates: with 90 days a life would be the same,
// and take longer.
const lifetime = 6 * 24 * time.Hour

// live lives a life, after which one more process starts.
func (l *life) live() {
	l.restart()
	l.act(l.visit)
	l.changeKey()
	l.wait(time.Hour)
	l.around.setQuiet(true) // nothing happens
	l.wait(lifetime/3 - time.Hour)
	l.around.setQuiet(false)
	l.act(l.visit) // a process that has just started has to load the certificate
	l.wait(lifetime / 2)
	l.changeKey()
	l.wait(time.Hour)
	l.m.Close()
	l.restart()
	l.act(l.visit)
	l.operate("Renew", func(ctx context.Context) error { return l.m.Renew(ctx, host) })
	l.wait(time.Hour)
	l.m.Close()
	l.around.setQuiet(true)
	l.restart()
	l.act(l.visit)
	l.wait(time.Minute)
}
