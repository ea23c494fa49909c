package rediscache

import "github.com/redis/go-redis/v9"

// The server runs a script as one step, on the primary and by its own clock. An
// entry's value is always the last argument: servers quote the first arguments of
// a call that they refuse.
//
// A script publishes before it writes. Subscribers read only after the script has
// ended, and a user who may not publish gets an error before anything has changed.
//
// A lock is a string with an expiry, so that it cannot exist without one: the
// token, the identity of the lease and the owner, separated by spaces. A guarded
// write compares all of it. Should the counter of tokens ever go back, the
// identity still tells two leases apart.

// getScript returns the values of the keys. It reads by a script because a client
// may be set to answer GET from a replica or from its own memory, where an entry
// that another machine has just stored is missing.
//
// KEYS: entries.
var getScript = redis.NewScript(`
local values = {}
for i, key in ipairs(KEYS) do
	values[i] = redis.call('GET', key)
end
return values`)

// putScript stores an entry and returns 1, or 0 if the lease has ended.
//
// KEYS: the entry and, under a lease, its lock.
// ARGV: channel, name of the entry, the lock's value or "", the entry's value.
var putScript = redis.NewScript(`
if KEYS[2] and redis.call('GET', KEYS[2]) ~= ARGV[3] then
	return 0
end
redis.call('PUBLISH', ARGV[1], ARGV[2])
redis.call('SET', KEYS[1], ARGV[4])
return 1`)

// deleteScript does the same without a value.
var deleteScript = redis.NewScript(`
if KEYS[2] and redis.call('GET', KEYS[2]) ~= ARGV[3] then
	return 0
end
redis.call('PUBLISH', ARGV[1], ARGV[2])
redis.call('DEL', KEYS[1])
return 1`)

// lockScript takes a lock and returns {token}, or else {0, value, remaining
// milliseconds} of the lock that is there. If the lease has the lock already, the
// client has repeated a request whose reply was lost.
//
// The token is the server's time in microseconds, or one more than the last token
// if that is larger. So it goes back neither when the clock does nor, usually,
// when the counter is lost. A double holds it exactly until the year 2255.
//
// KEYS: lock, counter. ARGV: identity, owner, milliseconds.
var lockScript = redis.NewScript(`
local held = redis.call('GET', KEYS[1])
if held then
	local token, id = string.match(held, '^(%d+) (%x+) ')
	if id ~= ARGV[1] then
		return {'0', held, redis.call('PTTL', KEYS[1])}
	end
	redis.call('PEXPIRE', KEYS[1], ARGV[3])
	return {token}
end
local time = redis.call('TIME')
local token = redis.call('INCR', KEYS[2])
local least = time[1] * 1000000 + time[2]
if token < least then
	token = least
	redis.call('SET', KEYS[2], string.format('%.0f', token))
end
token = string.format('%.0f', token)
redis.call('SET', KEYS[1], token .. ' ' .. ARGV[1] .. ' ' .. ARGV[2], 'PX', ARGV[3])
return {token}`)

// extendScript makes a lease end later and returns 1, or 0 if it has ended.
//
// KEYS: lock. ARGV: the lock's value, milliseconds.
var extendScript = redis.NewScript(`
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
	return 0
end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])`)

// unlockScript ends a lease and returns 1, or 0 if it had ended.
//
// KEYS: lock. ARGV: the lock's value.
var unlockScript = redis.NewScript(`
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
	return 0
end
return redis.call('DEL', KEYS[1])`)
