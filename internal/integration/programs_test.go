package integration

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// programs are the servers' commands, in the versions that go.mod pins.
type programs struct {
	dir  string // made and removed by TestMain
	once sync.Once
	err  error
}

var servers programs

// buildTimeout allows for downloads on a slow machine.
const buildTimeout = 5 * time.Minute

func TestMain(m *testing.M) {
	if os.Getenv(superviseEnv) != "" {
		os.Exit(supervise(os.Args[1], os.Args[2:]))
	}
	if os.Getenv(victimEnv) != "" {
		os.Exit(victim(os.Args[1], os.Args[2], os.Args[3], os.Args[4], os.Args[5]))
	}
	dir, err := os.MkdirTemp("", "nostall-integration-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	servers.dir = dir
	code := table.Main(m)
	os.RemoveAll(dir)
	os.Exit(code)
}

func (p *programs) build() error {
	p.once.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), buildTimeout)
		defer cancel()
		cmd := exec.CommandContext(ctx, "go", "build", "-o", p.dir+string(filepath.Separator),
			"github.com/letsencrypt/pebble/v2/cmd/pebble",
			"github.com/letsencrypt/pebble/v2/cmd/pebble-challtestsrv")
		// Outside the workspace, whose other modules could raise the versions.
		cmd.Env = append(os.Environ(), "GOWORK=off")
		if out, err := cmd.CombinedOutput(); err != nil {
			p.err = fmt.Errorf("%v: %w\n%s", cmd.Args, err, out)
		}
	})
	return p.err
}

// path returns the path of a program. If the programs cannot be built the test
// is skipped, or fails where NOSTALL_REQUIRE_SERVICES is 1.
func (p *programs) path(t testing.TB, name string) string {
	t.Helper()
	err := p.build()
	if err == nil {
		return filepath.Join(p.dir, name)
	}
	const hint = "Pebble cannot be built. Where a module proxy can be reached, run: GOWORK=off go -C internal/integration mod download\n"
	if os.Getenv("NOSTALL_REQUIRE_SERVICES") == "1" {
		t.Fatal(hint, err)
	}
	t.Skip(hint, err)
	return ""
}
