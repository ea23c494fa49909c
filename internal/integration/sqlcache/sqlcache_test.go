package sqlcache_test

import (
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/nostall/nostall/certmgr/cache"
	"github.com/nostall/nostall/certmgr/cache/cachetest"
)

// Each database, in each way that users are told to open it, keeps the contract of
// package cache.

func TestPostgreSQL(t *testing.T) { exerciseAll(t, postgreSQL(t)) }

func TestPostgreSQLSerializable(t *testing.T) {
	exercise(t, postgreSQL(t, "default_transaction_isolation=serializable"))
}

func TestPgBouncer(t *testing.T) { exerciseAll(t, pgBouncer(t, "exec")) }

func TestPgBouncerStatementMode(t *testing.T) {
	exercise(t, pgBouncer(t, "simple_protocol", "pool_mode = statement"))
}

func TestMariaDB(t *testing.T) { exerciseAll(t, mariaDB(t, nil)) }

func TestMariaDBInterpolated(t *testing.T) {
	exercise(t, mariaDB(t, func(config *mysql.Config) {
		config.InterpolateParams = true
		// Without strict mode MariaDB cuts off what is too long. With less isolation,
		// statements take fewer locks on their own account.
		config.Params = map[string]string{"sql_mode": "''", "tx_isolation": "'READ-COMMITTED'", "time_zone": "'-11:00'"}
	}))
}

func TestSQLite(t *testing.T) {
	exerciseAll(t, sqlite(t, "journal_mode(WAL)", "busy_timeout(60000)"))
}

// Without WAL, readers and writers wait for each other.
func TestSQLiteWithoutWAL(t *testing.T) { exercise(t, sqlite(t, "busy_timeout(60000)")) }

// exerciseAll runs exercise, and the suite that waits for leases to end.
func exerciseAll(t *testing.T, d *database) {
	exercise(t, d)
	t.Run("Locker", func(t *testing.T) {
		cachetest.RunLocker(t, func(t *testing.T) *cachetest.Store { return d.store(t) })
	})
}

// exercise runs what every database must do.
func exercise(t *testing.T, d *database) {
	t.Run("Cache", func(t *testing.T) {
		cachetest.Run(t, func(t *testing.T) cache.Cache {
			c, _ := d.cache(t)
			return c
		})
	})
	t.Run("Locks", func(t *testing.T) { testLocks(t, d) })
	t.Run("Rows", func(t *testing.T) { testRows(t, d) })
	t.Run("Fencing", func(t *testing.T) { testFencing(t, d) })
	t.Run("Tables", func(t *testing.T) { testTables(t, d) })
	t.Run("Many", func(t *testing.T) { testMany(t, d) })
	t.Run("Statements", func(t *testing.T) { testStatements(t, d) })
	if d.server != nil {
		t.Run("OneStep", func(t *testing.T) { testOneStep(t, d) })
		t.Run("Outage", func(t *testing.T) { testOutage(t, d) })
		t.Run("LargeValues", func(t *testing.T) { testLargeValues(t, d) })
	}
}
