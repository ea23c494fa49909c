package servertest

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"
)

// The user that runs MariaDB, which does not serve root.
const mariadbUser = "mysql"

// StartMariaDB starts MariaDB with an empty database "test", whose user "root"
// needs no password. Options are those of mariadbd, such as "--sql-mode=". It does
// not wait for its disk, so it is fast, and survives Kill but not the loss of power.
func StartMariaDB(t testing.TB, options ...string) *Server {
	t.Helper()
	install := Program(t, "mariadb-install-db", "mariadb-server")
	server := Program(t, "mariadbd", "mariadb-server", "/usr/sbin", "/usr/libexec")
	dir := dataDir(t, mariadbUser)
	data := filepath.Join(dir, "data")
	// Its own folder for temporary tables, since a server that starts removes those
	// of others from a common one.
	own := "--tmpdir=" + dir
	run(t, as(t, mariadbUser, install, "--no-defaults", "--datadir="+data, own,
		"--auth-root-authentication-method=normal", "--skip-name-resolve", "--innodb-flush-log-at-trx-commit=0"))
	return StartServer(t, Spec{
		Command: func(addr string) *exec.Cmd {
			host, port := split(t, addr)
			cmd := as(t, mariadbUser, server, "--no-defaults", "--datadir="+data, own, "--bind-address="+host, "--port="+port,
				"--socket="+filepath.Join(dir, "s"), "--pid-file="+filepath.Join(dir, "pid"),
				"--skip-name-resolve", "--innodb-flush-log-at-trx-commit=2", "--innodb-buffer-pool-size=64M")
			cmd.Args = append(cmd.Args, options...)
			return cmd
		},
		Ready: mariadbReady,
	})
}

// mariadbReady reads the server's greeting: after a length of three bytes and a
// number, the version of the protocol. A server that cannot take the connection
// sends an error in its place. The port is open only once the server serves.
func mariadbReady(addr string) error {
	greeting, err := exchange(addr, "", 5)
	if err == nil && greeting[4] != 10 {
		err = fmt.Errorf("a greeting of %q", greeting)
	}
	return err
}
