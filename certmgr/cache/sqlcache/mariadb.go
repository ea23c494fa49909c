package sqlcache

// Names are binary strings: other collations ignore case or blanks at the end.
// Times are UTC, which is the same for sessions of any time zone, and the time of
// the statement's beginning: a statement that waited for a row sees a lease that
// has not ended although it has, and changes nothing; nobody took it meanwhile.
//
// LOCK IN SHARE MODE reads the row as it is now, after whoever is changing it, and
// makes a statement that takes, extends or unlocks the lock wait for the end of
// this one. InnoDB does so by itself for a subquery of DELETE, with any isolation, but
// not for the SELECT of an INSERT with READ COMMITTED.
//
// In take, assignments are made from left to right, so that of token is the first one
// and that of ends the last.
//
// mariaDB is never changed.
var mariaDB = statements{
	createEntries: `
CREATE TABLE IF NOT EXISTS {entries} (
	name varbinary(512) NOT NULL PRIMARY KEY,
	data longblob NOT NULL
) ENGINE=InnoDB`,
	createLocks: `
CREATE TABLE IF NOT EXISTS {locks} (
	name varbinary(512) NOT NULL PRIMARY KEY,
	token bigint NOT NULL,
	holder varbinary(64) NOT NULL,
	owner varbinary(200) NOT NULL,
	ends datetime(6) NOT NULL
) ENGINE=InnoDB`,
	get:    `SELECT data FROM {entries} WHERE name = ?`,
	put:    `INSERT INTO {entries} (name, data) VALUES (?, ?) ON DUPLICATE KEY UPDATE data = VALUES(data)`,
	delete: `DELETE FROM {entries} WHERE name = ?`,
	keys:   `SELECT name FROM {entries} WHERE name > ? ORDER BY name LIMIT ?`,
	putGuarded: `
INSERT INTO {entries} (name, data)
SELECT ?, ? FROM {locks} WHERE name = ? AND token = ? AND holder = ? AND ends > UTC_TIMESTAMP(6) LOCK IN SHARE MODE
ON DUPLICATE KEY UPDATE data = VALUES(data)`,
	deleteGuarded: `
DELETE FROM {entries} WHERE name = ? AND EXISTS (
	SELECT 1 FROM {locks} WHERE name = ? AND token = ? AND holder = ? AND ends > UTC_TIMESTAMP(6)
)`,
	look: `SELECT token, holder, owner, TIMESTAMPDIFF(MICROSECOND, UTC_TIMESTAMP(6), ends) FROM {locks} WHERE name = ?`,
	take: `
INSERT INTO {locks} (name, token, holder, owner, ends)
VALUES (?, TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)), ?, ?, UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND)
ON DUPLICATE KEY UPDATE
	token = IF(ends <= UTC_TIMESTAMP(6) OR holder = VALUES(holder), GREATEST(token + 1, VALUES(token)), token),
	holder = IF(ends <= UTC_TIMESTAMP(6), VALUES(holder), holder),
	owner = IF(ends <= UTC_TIMESTAMP(6), VALUES(owner), owner),
	ends = IF(ends <= UTC_TIMESTAMP(6), VALUES(ends), ends)
RETURNING token, holder, owner, TIMESTAMPDIFF(MICROSECOND, UTC_TIMESTAMP(6), ends)`,
	extend: `
UPDATE {locks} SET ends = UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND
WHERE name = ? AND token = ? AND holder = ? AND ends > UTC_TIMESTAMP(6)`,
	unlock:  `DELETE FROM {locks} WHERE name = ? AND token = ? AND holder = ? AND ends > UTC_TIMESTAMP(6)`,
	expired: `SELECT name FROM {locks} WHERE ends < UTC_TIMESTAMP(6) - INTERVAL 1 DAY LIMIT ?`,
	remove:  `DELETE FROM {locks} WHERE name = ? AND ends < UTC_TIMESTAMP(6) - INTERVAL 1 DAY`,
}
