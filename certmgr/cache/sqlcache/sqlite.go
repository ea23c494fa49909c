package sqlcache

// A statement that writes has the database to itself, so what it compares does
// not change until it ends. Times are milliseconds since 1970, from a function
// that old versions have too; within a statement the time does not change, and it
// is read after the statement has waited for the database.
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
	name TEXT NOT NULL PRIMARY KEY,
	token INTEGER NOT NULL,
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
INSERT INTO {locks} AS l (name, token, holder, owner, ends) VALUES (?, 1, ?, ?, ` + sqliteNow + ` + ? / 1000)
ON CONFLICT (name) DO UPDATE
SET token = l.token + 1, holder = excluded.holder, owner = excluded.owner, ends = excluded.ends
WHERE l.ends <= ` + sqliteNow + `
RETURNING token, holder, owner, (ends - ` + sqliteNow + `) * 1000`,
	extend: `
UPDATE {locks} SET ends = ` + sqliteNow + ` + ? / 1000
WHERE name = ? AND token = ? AND holder = ? AND ends > ` + sqliteNow,
	unlock: `
UPDATE {locks} SET ends = 0, holder = ''
WHERE name = ? AND token = ? AND holder = ? AND ends > ` + sqliteNow,
}

const sqliteNow = `CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)`
