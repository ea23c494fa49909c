package sqlcache

// Names are compared byte by byte with collation C, whatever that of the database
// is. clock_timestamp, unlike now, goes on within a statement: after it has
// waited for a row, the time is still right.
//
// FOR SHARE lets several guarded changes go on at once, and makes a statement that
// takes, extends or unlocks the lock wait for their end. If it came first, the row
// is looked at again once it has ended.
//
// postgreSQL is never changed.
var postgreSQL = statements{
	createEntries: `
CREATE TABLE IF NOT EXISTS {entries} (
	name text COLLATE "C" NOT NULL PRIMARY KEY,
	data bytea NOT NULL
)`,
	createLocks: `
CREATE TABLE IF NOT EXISTS {locks} (
	name text COLLATE "C" NOT NULL PRIMARY KEY,
	token bigint NOT NULL,
	holder text NOT NULL,
	owner text NOT NULL,
	ends timestamptz NOT NULL
)`,
	get:    `SELECT data FROM {entries} WHERE name = $1`,
	put:    `INSERT INTO {entries} (name, data) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET data = excluded.data`,
	delete: `DELETE FROM {entries} WHERE name = $1`,
	keys:   `SELECT name FROM {entries} WHERE name > $1 ORDER BY name LIMIT $2`,
	putGuarded: `
WITH lease AS (
	SELECT 1 FROM {locks} WHERE name = $3 AND token = $4 AND holder = $5 AND ends > clock_timestamp() FOR SHARE
)
INSERT INTO {entries} (name, data) SELECT $1::text, $2::bytea FROM lease
ON CONFLICT (name) DO UPDATE SET data = excluded.data`,
	deleteGuarded: `
WITH lease AS (
	SELECT 1 FROM {locks} WHERE name = $2 AND token = $3 AND holder = $4 AND ends > clock_timestamp() FOR SHARE
)
DELETE FROM {entries} WHERE name = $1 AND EXISTS (SELECT 1 FROM lease)`,
	look: `
SELECT token, holder, owner, (extract(epoch FROM ends - clock_timestamp()) * 1000000)::bigint
FROM {locks} WHERE name = $1`,
	take: `
INSERT INTO {locks} AS l (name, token, holder, owner, ends)
VALUES ($1, ` + postgresToken + `, $2, $3, clock_timestamp() + $4::bigint * interval '1 microsecond')
ON CONFLICT (name) DO UPDATE
SET token = greatest(l.token + 1, ` + postgresToken + `), holder = excluded.holder, owner = excluded.owner,
	ends = clock_timestamp() + $4::bigint * interval '1 microsecond'
WHERE l.ends <= clock_timestamp() OR l.holder = excluded.holder
RETURNING token, holder, owner, (extract(epoch FROM ends - clock_timestamp()) * 1000000)::bigint`,
	extend: `
UPDATE {locks} SET ends = clock_timestamp() + $1::bigint * interval '1 microsecond'
WHERE name = $2 AND token = $3 AND holder = $4 AND ends > clock_timestamp()`,
	unlock:  `DELETE FROM {locks} WHERE name = $1 AND token = $2 AND holder = $3 AND ends > clock_timestamp()`,
	expired: `SELECT name FROM {locks} WHERE ends < clock_timestamp() - interval '1 day' LIMIT $1`,
	remove:  `DELETE FROM {locks} WHERE name = $1 AND ends < clock_timestamp() - interval '1 day'`,
}

// postgresToken is the time in microseconds since 1970.
const postgresToken = `(extract(epoch FROM clock_timestamp()) * 1000000)::bigint`
