// Package hosts knows what a host name is: its one normal form, what a public CA
// would certify, lists of names and wildcards, and the file that such a list is kept
// in. It may know IDNA, the Public Suffix List and the file system. It knows neither
// who follows a list nor what becomes of a change, starts no goroutine and takes no
// lock; where the caller has to, its doc says so.
package hosts
