package servertest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// StartPgBouncer starts PgBouncer in front of a PostgreSQL server, in transaction
// mode: a client has a session of the server for the time of a transaction only.
// [PostgresURL] returns the URL for clients. Settings have the form
// "name = value".
func StartPgBouncer(t testing.TB, server *Postgres, settings ...string) *Server {
	t.Helper()
	program := Program(t, "pgbouncer", "pgbouncer", "/usr/sbin")
	dir := dataDir(t, postgresUser)
	return StartServer(t, Spec{
		Command: func(addr string) *exec.Cmd {
			host, port := split(t, addr)
			serverHost, serverPort := split(t, server.Addr())
			lines := append([]string{
				"[databases]",
				fmt.Sprintf("* = host=%s port=%s user=%s", serverHost, serverPort, postgresUser),
				"[pgbouncer]",
				"listen_addr = " + host,
				"listen_port = " + port,
				"unix_socket_dir =",
				"auth_type = any",
				"pool_mode = transaction",
				"max_client_conn = 1000",
				"default_pool_size = 4",
			}, settings...)
			config := filepath.Join(dir, "pgbouncer.ini")
			if err := os.WriteFile(config, []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
			return as(t, postgresUser, program, config)
		},
		Ready: postgresReady,
		Stop:  syscall.SIGTERM,
	})
}
