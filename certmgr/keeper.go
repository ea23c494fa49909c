package certmgr

import "time"

// keeper is notified of certificates and hosts by the components that issue and
// load them. It must not block.
type keeper interface {
	// scheduleIssued and scheduleLoaded schedule the renewal of a certificate
	// in memory that was just issued, or read from the Cache.
	scheduleIssued(cert *certificate)
	scheduleLoaded(cert *certificate)
	// deliver has Manager.Issued called for a certificate that was just issued,
	// and is in the Cache as far as it could be written. scheduleLoaded includes
	// that.
	deliver(cert *certificate)
	// scheduleProbe sets when a host that waits for DNS is probed.
	scheduleProbe(sub subject, t time.Time)
	// notDueBefore returns when a subject's certificate is to be renewed, or
	// zero if that is now, or was tried and failed.
	notDueBefore(sub subject) time.Time
	// noteReached notes that the CA validated a host here.
	noteReached(host string, g grant)
	// caIsBack brings forward what waits for the CA, which works again.
	caIsBack()
	// regroup brings the certificates of hosts in line with their groups.
	regroup(names []string)
	// drop takes a host out of service, memory and renewal, unless it is on the
	// list. why may be nil.
	drop(host string, why error)
}
