// Package account has an account with a CA: it registers it, keeps its key and its
// contact, and changes the key.
//
// A [Registrar] puts these parts together. Each knows those below it:
//
//	changer       changes the key (RFC 8555, section 7.3.5)
//	registration  registers the account, or finds it (section 7.3)
//	settler       finds out by which key the CA knows the account
//	saver         puts a key that the CA knows in its place in the store
//	contact       updates the account's contact (section 7.3.2)
//	keyStore      reads and writes the entries of the keys
//	known         what this process knows, whatever the store holds
//
// The key has two entries in the [Store], one of them for the new key of a change. The
// rules by which a key is given up are those of settler.
//
// The package may know ACME, keys and events. It knows no hosts, certificates or
// failures, nor who uses the account. Its goroutines are those of Config.Tasks, and of
// the callbacks that are bounded by what Config.Callout returns; whoever made these
// closes them and waits for them.
package account
