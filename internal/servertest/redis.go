package servertest

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// redisPackage is the Debian package of redis-server and redis-cli.
const redisPackage = "redis-server"

// A Redis is a Redis server with a password and an append-only file, or a sentinel.
// Methods may be called concurrently.
type Redis struct {
	Network  string // "unix" or "tcp"
	Addr     string
	Password string

	t       testing.TB
	program string
	args    []string
	dir     string // of its data
	mu      sync.Mutex
	process *Process // protected by mu
}

// StartRedis starts a server that listens on a Unix socket, so that a restart
// finds no port taken. Settings are in the form of the command line, such as
// "--maxmemory-policy", "allkeys-lru".
func StartRedis(t testing.TB, settings ...string) *Redis {
	t.Helper()
	r := newRedis(t)
	r.Network, r.Addr = "unix", filepath.Join(r.dir, "s")
	r.args = append(r.dataArgs(), "--port", "0", "--unixsocket", r.Addr)
	r.args = append(r.args, settings...)
	if !r.start() {
		t.Fatalf("redis-server ended:\n%s", r.Process().Output())
	}
	return r
}

// newRedis returns a server that has not been started.
func newRedis(t testing.TB) *Redis {
	t.Helper()
	// Not t.TempDir, whose name may be too long for a socket.
	dir, err := os.MkdirTemp("", "redis")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return &Redis{
		Password: "a password",
		t:        t,
		program:  Program(t, "redis-server", redisPackage),
		dir:      dir,
	}
}

// dataArgs returns the settings of every server that has data. Without appendfsync
// always, a server that is killed while its file is synced loses what it confirmed.
func (r *Redis) dataArgs() []string {
	return []string{
		"--dir", r.dir, "--bind", "127.0.0.1", "--requirepass", r.Password, "--masterauth", r.Password,
		"--appendonly", "yes", "--appendfsync", "always", "--save", "", "--repl-diskless-sync-delay", "0",
	}
}

// startTCP starts a server on a free port, with the settings for that port. It
// tries again on another one if somebody has taken it meanwhile.
func (r *Redis) startTCP(settings func(port string) []string) {
	r.t.Helper()
	const attempts = 5
	for range attempts {
		r.Network, r.Addr = "tcp", FreeAddr(r.t)
		r.args = settings(r.Port())
		if r.start() {
			return
		}
	}
	r.t.Fatalf("%s ended:\n%s", r.program, r.Process().Output())
}

// Port returns the port of a server that listens on one.
func (r *Redis) Port() string {
	_, port, err := net.SplitHostPort(r.Addr)
	if err != nil {
		r.t.Fatal(err)
	}
	return port
}

// start starts the process, and reports whether it answers. Otherwise it has ended.
func (r *Redis) start() bool {
	r.t.Helper()
	p := Start(r.t, exec.Command(r.program, r.args...))
	r.mu.Lock()
	r.process = p
	r.mu.Unlock()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-p.Done():
			return false
		case <-r.t.Context().Done():
			return false
		case <-ticker.C:
		}
		if r.answers() {
			return true
		}
	}
}

// answers reports whether the server takes commands. It has none while it reads
// its data.
func (r *Redis) answers() bool {
	conn, err := net.DialTimeout(r.Network, r.Addr, time.Minute)
	if err != nil {
		return false
	}
	defer conn.Close()
	fmt.Fprintf(conn, "AUTH %q\r\nPING\r\n", r.Password)
	replies := bufio.NewReader(conn)
	replies.ReadString('\n') // of AUTH: sentinels have no password
	pong, _ := replies.ReadString('\n')
	return pong == "+PONG\r\n"
}

// Process returns the process that was started last.
func (r *Redis) Process() *Process {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.process
}

// Stop ends the server in order, as an operator does. Its data are kept.
func (r *Redis) Stop() { r.Process().End() }

// Kill kills the server. What it wrote to its file is kept.
func (r *Redis) Kill() { r.Process().Kill() }

// Restart starts a server that was stopped or killed again, with its data.
func (r *Redis) Restart() {
	r.t.Helper()
	r.Kill()
	if !r.start() {
		r.t.Fatalf("%s ended after a restart:\n%s", r.program, r.Process().Output())
	}
}

// CLI runs redis-cli with the arguments of a command, and returns what it prints,
// without the last line end. An error of the server is part of that.
func (r *Redis) CLI(args ...string) string {
	r.t.Helper()
	at := []string{"-s", r.Addr}
	if r.Network == "tcp" {
		at = []string{"-p", r.Port()}
	}
	cmd := exec.Command(Program(r.t, "redis-cli", redisPackage), append(at, args...)...)
	cmd.Env = append(os.Environ(), "REDISCLI_AUTH="+r.Password)
	var warnings strings.Builder
	cmd.Stderr = &warnings
	out, err := cmd.Output()
	if err != nil {
		r.t.Errorf("redis-cli %s: %v\n%s%s", strings.Join(args, " "), err, out, warnings.String())
	}
	return strings.TrimRight(string(out), "\n")
}

// Await runs a command, until redis-cli prints one of the lines that it is to.
func (r *Redis) Await(line string, args ...string) {
	r.t.Helper()
	r.awaitOutput(fmt.Sprintf("a line %q", line), func(lines []string) bool {
		return slices.Contains(lines, line)
	}, args...)
}

// awaitOutput runs a command, until redis-cli prints lines that are good, which what describes.
func (r *Redis) awaitOutput(what string, good func(lines []string) bool, args ...string) {
	r.t.Helper()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		var lines []string
		for l := range strings.Lines(r.CLI(args...)) {
			lines = append(lines, strings.TrimSpace(l))
		}
		if good(lines) {
			return
		}
		select {
		case <-r.t.Context().Done():
			r.t.Fatalf("redis-cli %s: not %s, but:\n%s", strings.Join(args, " "), what, strings.Join(lines, "\n"))
		case <-r.Process().Done():
			r.t.Fatalf("%s ended:\n%s", r.program, r.Process().Output())
		case <-ticker.C:
		}
	}
}

// RedisSentinel is a primary, a replica that is in step with it, and a sentinel
// that watches both.
type RedisSentinel struct {
	Name             string // of the primary, for clients of the sentinel
	Primary, Replica *Redis
	Sentinel         *Redis // has no password
}

// StartRedisSentinel starts them. The sentinel does not act by itself within a
// test, which might be slow for other reasons: call Failover.
func StartRedisSentinel(t testing.TB) *RedisSentinel {
	t.Helper()
	s := &RedisSentinel{
		Name:     "primary",
		Primary:  newRedis(t),
		Replica:  newRedis(t),
		Sentinel: newRedis(t),
	}
	s.Primary.startTCP(func(port string) []string { return append(s.Primary.dataArgs(), "--port", port) })
	s.Replica.startTCP(func(port string) []string {
		return append(s.Replica.dataArgs(), "--port", port, "--replicaof", "127.0.0.1 "+s.Primary.Port())
	})
	s.Replica.Await("master_link_status:up", "INFO", "replication")
	config := filepath.Join(s.Sentinel.dir, "sentinel.conf")
	s.Sentinel.startTCP(func(port string) []string {
		lines := []string{
			"bind 127.0.0.1", "port " + port, "dir " + s.Sentinel.dir,
			"sentinel monitor " + s.Name + " 127.0.0.1 " + s.Primary.Port() + " 1",
			"sentinel auth-pass " + s.Name + " \"" + s.Primary.Password + "\"",
			"sentinel down-after-milliseconds " + s.Name + " 600000",
		}
		if err := os.WriteFile(config, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return []string{config, "--sentinel"}
	})
	s.awaitReplica()
	return s
}

// awaitReplica waits until the sentinel is connected to the replica. Until then its
// flags are "slave,disconnected", and clients are not sent there.
func (s *RedisSentinel) awaitReplica() {
	s.Sentinel.t.Helper()
	s.Sentinel.awaitOutput("a connected replica", func(lines []string) bool {
		at := slices.Index(lines, "flags") + 1 // its value is the next line
		return at > 0 && at < len(lines) && lines[at] == "slave"
	}, "SENTINEL", "REPLICAS", s.Name)
}

// Failover makes the replica the primary, whether the old one lives or not, and
// returns when clients of the sentinel are told so.
func (s *RedisSentinel) Failover() {
	s.Sentinel.t.Helper()
	// While the sentinel is not sure of the replica, it answers NOGOODSLAVE.
	s.Sentinel.Await("OK", "SENTINEL", "FAILOVER", s.Name)
	s.Sentinel.Await(s.Replica.Port(), "SENTINEL", "GET-MASTER-ADDR-BY-NAME", s.Name)
	s.Primary, s.Replica = s.Replica, s.Primary
}

// StartRedisCluster starts a cluster of three primaries.
func StartRedisCluster(t testing.TB) []*Redis {
	t.Helper()
	nodes := make([]*Redis, 3)
	create := []string{"--cluster", "create"}
	for i := range nodes {
		r := newRedis(t)
		r.startTCP(func(port string) []string {
			_, bus, err := net.SplitHostPort(FreeAddr(t))
			if err != nil {
				t.Fatal(err)
			}
			// A slow machine must not look like a failure.
			return append(r.dataArgs(), "--port", port, "--cluster-enabled", "yes", "--cluster-port", bus,
				"--cluster-node-timeout", "600000")
		})
		nodes[i] = r
		create = append(create, r.Addr)
	}
	nodes[0].CLI(append(create, "--cluster-yes")...)
	for _, r := range nodes {
		r.Await("cluster_state:ok", "CLUSTER", "INFO")
		r.Await("cluster_known_nodes:3", "CLUSTER", "INFO")
	}
	return nodes
}
