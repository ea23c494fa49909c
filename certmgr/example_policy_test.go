package certmgr_test

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/nostall/nostall/certmgr"
)

// A policy that logs which client asked first for a name that it refuses.
func ExampleAskerFromContext() {
	customers := map[string]bool{"shop.example.com": true}
	m := &certmgr.Manager{
		HostPolicy: func(ctx context.Context, host string) error {
			if customers[host] {
				return nil
			}
			if a, ok := certmgr.AskerFromContext(ctx); ok {
				slog.Info("unknown host", "host", host, "client", a.RemoteAddr, "sni", a.SNI, "alpn", a.ALPN)
			}
			return fmt.Errorf("%s is no customer's", host)
		},
	}
	fmt.Println(m.HostPolicy(context.Background(), "other.example.com"))
	// Output: other.example.com is no customer's
}
