package pemfiles_test

import (
	"context"
	"crypto/tls"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/cache"
	"github.com/nostall/nostall/certmgr/pemfiles"
)

// A Manager writes what it issues. While the directory is missing, that is an
// event that names the file, and it is repeated.
func TestManagerWritesFiles(t *testing.T) {
	path := filepath.Join(newDir(t), "certs")
	synctest.Test(t, func(t *testing.T) {
		ca := acmetest.NewUnstartedServer()
		ca.StartMemory()
		defer ca.Close()
		var mu sync.Mutex
		var events []audit.Event
		m := &certmgr.Manager{
			Prompt: certmgr.AcceptTOS,
			Cache:  new(cache.Memory),
			Hosts:  certmgr.MustAllowlist("a.example.com"),
			Client: &acme.Client{DirectoryURL: ca.URL, HTTPClient: ca.Client()},
			Issued: (&pemfiles.Dir{Path: path}).Issued,
			Audit: func(_ context.Context, e audit.Event) {
				mu.Lock()
				defer mu.Unlock()
				events = append(events, e)
			},
		}
		defer m.Close()
		ca.Resolve("*", acmetest.Target{TLSConfig: m.TLSConfig()})
		cert, err := m.GetCertificate(&tls.ClientHelloInfo{ServerName: "a.example.com"})
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		mu.Lock()
		last := events[len(events)-1]
		mu.Unlock()
		if last.Kind != audit.DeliveryFailed || !strings.Contains(last.String(), filepath.Join(path, "a.example.com.pem")) || !strings.Contains(last.String(), "create the directory") {
			t.Errorf("the last event is %v", last)
		}
		if err := os.Mkdir(path, 0o700); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		file := filepath.Join(path, "a.example.com.pem")
		pair, err := tls.LoadX509KeyPair(file, file)
		if err != nil || !pair.Leaf.Equal(cert.Leaf) {
			t.Errorf("the file does not have the certificate: %v", err)
		}
	})
}
