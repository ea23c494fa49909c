// Package sqlcache holds the tests of certmgr/cache/sqlcache that need databases
// and their drivers. It is a module of its own, so that users of sqlcache have
// nothing to do with the drivers of the databases that they do not use.
package sqlcache
