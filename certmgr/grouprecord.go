package certmgr

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/nostall/nostall/internal/bundle"
)

// groupRecord is the JSON form of what the latest certificate of a group is, in the
// Cache under its id and "+cert". A name that has left the order, even the first one,
// is as a rule not in the others' certificate: by this record another machine finds
// that, and does not order it again for all names.
type groupRecord struct {
	Entry   string   `json:"entry"`             // the key of the certificate
	Serial  string   `json:"serial"`            // so that each certificate has another record
	Without []string `json:"without,omitempty"` // names that the group had when it was asked for, and that it lacks
}

// groupRecordKey returns the key of the record for a group.
func groupRecordKey(sub subject) string {
	if sub.alg == bundle.RSA {
		return entryKey(sub.host(), groupSuffix+"+rsa+cert")
	}
	return entryKey(sub.host(), groupSuffix+"+cert")
}

// putGroupRecord writes the record after the certificate of an issuance was stored.
// Losing it costs at most one order of another machine.
func putGroupRecord(ctx context.Context, is *issuer, i *issuance, c *certificate) {
	rec := groupRecord{Entry: c.entry, Serial: serialOf(c.leaf), Without: slices.DeleteFunc(slices.Clone(i.hosts()), c.covers)}
	if data, err := json.Marshal(rec); err == nil {
		is.store.put(ctx, groupRecordKey(i.req.sub), data)
	}
}

// groupRecord returns the record for a group, or nil. One that cannot be read counts
// as missing; it has been reported.
func (l *loader) groupRecord(ctx context.Context, sub subject, how manner) *groupRecord {
	key := groupRecordKey(sub)
	data, err := l.get(ctx, l.store.reads, key, how)
	if err != nil {
		return nil
	}
	rec := new(groupRecord)
	if err := decodeRecord(data, maxRecord, rec); err != nil {
		l.reports.badRecord(key, err)
		return nil
	}
	if !isGroupCacheKey(rec.Entry, sub.alg) {
		return nil
	}
	return rec
}

// readLatest loads the certificate of which the record of a group tells, or returns
// nil. It may lack the host of r.
func (l *loader) readLatest(ctx context.Context, r sharedRead) *certificate {
	rec := l.groupRecord(ctx, r.sub, r.how)
	if rec == nil {
		return nil
	}
	lacks := func(name string) bool { return slices.Contains(rec.Without, name) }
	if lacks(r.host) {
		names := slices.DeleteFunc(slices.Clone(l.groupOf(r.sub).Names()), lacks)
		if len(names) == 0 {
			return nil
		}
		r.host = names[0]
	}
	cert, _ := l.readGroupEntry(ctx, rec.Entry, r)
	return cert
}

// isForAll reports whether a certificate of the subject has all names of the next
// order, or those that it lacks had been asked for.
func (f *fleet) isForAll(ctx context.Context, sub subject, cert *certificate) bool {
	lacking := slices.DeleteFunc(slices.Clone(f.namesToOrder(sub)), cert.covers)
	if len(lacking) == 0 {
		return true
	}
	if !sub.group {
		return false
	}
	rec := f.loader.groupRecord(ctx, sub, freshly)
	return rec != nil && rec.Serial == serialOf(cert.leaf) &&
		!slices.ContainsFunc(lacking, func(name string) bool { return !slices.Contains(rec.Without, name) })
}
