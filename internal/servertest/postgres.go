package servertest

import (
	"fmt"
	"net/url"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// The user that runs PostgreSQL and PgBouncer, which do not serve root, and the
// superuser of the database, who needs no password.
const postgresUser = "postgres"

// Postgres is a PostgreSQL server. It does not wait for its disk, so it is fast,
// and survives Kill but not the loss of power.
type Postgres struct{ *Server }

// StartPostgres starts PostgreSQL with an empty database "postgres".
// Settings have the form "name=value".
func StartPostgres(t testing.TB, settings ...string) *Postgres {
	t.Helper()
	initdb := postgresProgram(t, "initdb")
	dir := filepath.Join(dataDir(t, postgresUser), "data")
	run(t, as(t, postgresUser, initdb, "--pgdata", dir, "--username", postgresUser, "--auth=trust",
		"--encoding=UTF8", "--no-locale", "--no-sync", "--no-instructions"))
	settings = append([]string{"fsync=off", "unix_socket_directories=", "max_connections=200"}, settings...)
	return &Postgres{StartServer(t, Spec{
		Command: func(addr string) *exec.Cmd {
			cmd := as(t, postgresUser, postgresProgram(t, "postgres"), "-D", dir)
			for _, setting := range append(settings, listenAt(t, addr)...) {
				cmd.Args = append(cmd.Args, "-c", setting)
			}
			return cmd
		},
		Ready: postgresReady,
		Stop:  syscall.SIGINT,
	})}
}

// URL returns the URL of a database for clients, with parameters such as
// "connect_timeout=3". The database that always exists is "postgres".
func (p *Postgres) URL(database string, parameters ...string) string {
	return PostgresURL(p.Addr(), database, parameters...)
}

// PostgresURL returns a URL as [Postgres.URL] does, for another address that leads
// to the server, such as that of a [Proxy].
func PostgresURL(addr, database string, parameters ...string) string {
	u := url.URL{
		Scheme:   "postgres",
		User:     url.User(postgresUser),
		Host:     addr,
		Path:     database,
		RawQuery: "sslmode=disable",
	}
	for _, p := range parameters {
		u.RawQuery += "&" + p
	}
	return u.String()
}

func postgresProgram(t testing.TB, name string) string {
	t.Helper()
	return Program(t, name, "postgresql", "/usr/lib/postgresql/*/bin", "/usr/local/pgsql/bin")
}

func listenAt(t testing.TB, addr string) []string {
	t.Helper()
	host, port := split(t, addr)
	return []string{"listen_addresses=" + host, "port=" + port}
}

// postgresReady begins a session, and reads whether the server takes it. A server
// that is starting answers with an error.
func postgresReady(addr string) error {
	const parameters = "\x00\x03\x00\x00user\x00" + postgresUser + "\x00database\x00postgres\x00\x00"
	answer, err := exchange(addr, string([]byte{0, 0, 0, 4 + byte(len(parameters))})+parameters, 1)
	if err == nil && answer[0] != 'R' {
		err = fmt.Errorf("a message of type %q in place of R", answer)
	}
	return err
}
