package soak

import (
	"flag"
	"fmt"
	"os"
	"testing"
	"time"
)

var (
	soakFor   = flag.Duration("soak.for", 10*time.Second, "how long the servers run")
	soakHosts = flag.Int("soak.hosts", 500, "hosts of both servers; a run of less than a minute has 20")
	killEvery = flag.Duration("soak.kill", time.Minute, "how often a server is killed; it is killed at least once")
	lifetime  = flag.Duration("soak.lifetime", 8*time.Minute, "lifetime of the certificates")
)

// serverEnv makes the test binary a server: it has its configuration.
const serverEnv = "NOSTALL_SOAK_SERVER"

func TestMain(m *testing.M) {
	if config := os.Getenv(serverEnv); config != "" {
		if err := serve(config); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}
