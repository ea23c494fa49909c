// Package account manages an account with a CA: it registers the account,
// stores its key, updates its contact, and changes the key.
//
// A [Registrar] puts these parts together. Each knows those below it:
//
//	changer       changes the key (RFC 8555, section 7.3.5)
//	registration  registers the account, or finds it (section 7.3)
//	blame         says whose fault it is that there is no account
//	settler       finds out by which key the CA knows the account
//	saver         saves a key that the CA knows as the current one in the store
//	contact       updates the account's contact (section 7.3.2)
//	keyStore      reads and writes the entries of the keys
//	settings      the user's, and which of them no CA could accept
//	known         what this process knows, independent of the store
//
// The key has two entries in the [Store], one of them for the new key of a
// change. The comment of settler has the rules on giving up a key.
//
// The package may know ACME, keys and events. It knows nothing of hosts,
// certificates or failures, nor who uses the account. It starts goroutines only
// through Config.Tasks and the Callouts from Config.Callout, whose owner closes
// and waits for them.
package account
