package main

import (
	"context"
	"crypto/tls"
	"net"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/nostall/nostall/certmgr/acmetest"
)

// lab is the environment of a measurement: a subject and a CA, both not yet
// started, and certificates.
type lab struct {
	subject subject
	entries []entry
	hello   []byte // an encoded ClientHello

	site site
}

// newLab reads the certificates and makes a CA, whose fields may still be set.
func newLab(s subject, material string, entries int) (*lab, error) {
	l := &lab{subject: s}
	var err error
	if l.hello, err = recordHello(); err != nil {
		return nil, err
	}
	if l.entries, err = readMaterial(material, entries); err != nil {
		return nil, err
	}
	for _, e := range l.entries {
		l.site.hosts = append(l.site.hosts, e.Host)
	}
	l.site.ca = acmetest.NewUnstartedServer()
	l.site.ca.NoRenewalInfo = true
	return l, nil
}

// prepare starts the CA and fills the subject's cache.
func (l *lab) prepare(ctx context.Context) error {
	l.site.ca.Start()
	l.site.trust()
	return l.subject.fill(ctx, l.site, l.entries)
}

// open prepares and starts the subject.
func (l *lab) open(ctx context.Context) error {
	if err := l.prepare(ctx); err != nil {
		return err
	}
	return l.subject.start(l.site)
}

// openToCA calls open, with a server that answers for all names. Each of the
// CA's validations takes step.
func (l *lab) openToCA(ctx context.Context, step time.Duration) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	l.site.port = listener.Addr().(*net.TCPAddr).Port
	if err := l.open(ctx); err != nil {
		return err
	}
	config := l.subject.tlsConfig()
	config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		select {
		case <-time.After(step):
			return nil, nil
		case <-hello.Context().Done():
			return nil, hello.Context().Err()
		}
	}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_ = tls.Server(conn, config).HandshakeContext(ctx) // the CA reports failures
			}()
		}
	}()
	l.site.ca.Resolve("*", acmetest.Target{TLSAddr: listener.Addr().String()})
	return nil
}

// handshake calls f like a TLS server.
func (l *lab) handshake(ctx context.Context, f func(*tls.ClientHelloInfo) error) error {
	return inHandshake(ctx, l.hello, f)
}

// visitAll makes one handshake for each of the hosts, in as many goroutines as
// there are processors.
func (l *lab) visitAll(ctx context.Context, hosts []string) error {
	var all errgroup.Group
	workers := runtime.GOMAXPROCS(0)
	for w := range workers {
		all.Go(func() error {
			return l.handshake(ctx, func(hello *tls.ClientHelloInfo) error {
				for i := w; i < len(hosts); i += workers {
					if _, err := l.subject.get(withName(hello, hosts[i])); err != nil {
						return err
					}
				}
				return nil
			})
		})
	}
	return all.Wait()
}
