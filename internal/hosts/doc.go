// Package hosts knows what a host name is: its normal form, which names a
// public CA would certify, lists of names and wildcards, and the file of such a
// list. It may know IDNA, the Public Suffix List and the file system. It does
// not know who uses a list. It starts no goroutine and takes no lock; where the
// caller needs one, the documentation says so.
package hosts
