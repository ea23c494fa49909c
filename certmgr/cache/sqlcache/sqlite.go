package sqlcache

// A statement that writes has the database to itself, so what it compares does
// not change until it ends. Times are milliseconds since 1970, from a function
// that old versions have too; within a statement the time does not change, and it
// is read after the statement has waited for the database.
//
// Two leases may be taken within a millisecond, so the token is no time: it is
// the key that SQLite gives to each new row, larger than all it has ever given in
// this table. Taking the lock of a lease that has ended replaces the row by a new
// one.
//
// sqlite is never changed.
var sqlite = statements{
	createEntries: `
CREATE TABLE IF NOT EXISTS {entries} (
	name TEXT NOT NULL PRIMARY KEY,
	data BLOB NOT NULL
)`,
	createLocks: `
CREATE TABLE IF NOT EXISTS {locks} (
	token INTEGER PRIMARY KEY AUTOINCREMENT,
	name TEXT NOT NULL UNIQUE,
	holder TEXT NOT NULL,
	owner TEXT NOT NULL,
	ends INTEGER NOT NULL
)`,
	get:    `SELECT data FROM {entries} WHERE name = ?`,
	put:    `INSERT INTO {entries} (name, data) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET data = excluded.data`,
	delete: `DELETE FROM {entries} WHERE name = ?`,
	keys:   `SELECT name FROM {entries} WHERE name > ? ORDER BY name LIMIT ?`,
	putGuarded: `
INSERT INTO {entries} (name, data)
SELECT ?, ? FROM {locks} WHERE name = ? AND token = ? AND holder = ? AND ends > ` + sqliteNow + `
ON CONFLICT (name) DO UPDATE SET data = excluded.data`,
	deleteGuarded: `
DELETE FROM {entries} WHERE name = ? AND EXISTS (
	SELECT 1 FROM {locks} WHERE name = ? AND token = ? AND holder = ? AND ends > ` + sqliteNow + `
)`,
	look: `SELECT token, holder, owner, (ends - ` + sqliteNow + `) * 1000 FROM {locks} WHERE name = ?`,
	take: `
INSERT OR REPLACE INTO {locks} (name, holder, owner, ends)
SELECT ?1, ?2, ?3, ` + sqliteNow + ` + ?4 / 1000
WHERE NOT EXISTS (SELECT 1 FROM {locks} WHERE name = ?1 AND ends > ` + sqliteNow + `)
RETURNING token, holder, owner, (ends - ` + sqliteNow + `) * 1000`,
	extend: `
UPDATE {locks} SET ends = ` + sqliteNow + ` + ? / 1000
WHERE name = ? AND token = ? AND holder = ? AND ends > ` + sqliteNow,
	unlock:  `DELETE FROM {locks} WHERE name = ? AND token = ? AND holder = ? AND ends > ` + sqliteNow,
	expired: `SELECT name FROM {locks} WHERE ends < ` + sqliteNow + ` - 86400000 LIMIT ?`,
	remove:  `DELETE FROM {locks} WHERE name = ? AND ends < ` + sqliteNow + ` - 86400000`,
}

const sqliteNow = `CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)`
