package certmgr

import (
	"time"

	"github.com/nostall/nostall/internal/renewal"
)

// agendaKind says what is due, and so which workers do it. Those for hosts that
// failed are half as many as the others, and a CA that is slow to say when to
// renew delays no renewal.
type agendaKind uint8

const (
	agendaRenew agendaKind = iota // a certificate is due
	agendaRetry                   // the same, for a host that has failed
	agendaProbe                   // a name on the list is probed, which waits for DNS or for a Start
	agendaAsk                     // the CA is asked when to renew

	agendaKinds = 4
)

type agendas [agendaKinds]renewal.Agenda[*renewalItem]

// setRenew makes or moves the appointment for a renewal.
func (a *agendas) setRenew(it *renewalItem, kind agendaKind, t time.Time) {
	if it.kind != kind {
		a[it.kind].Cancel(&it.renew)
		it.kind = kind
	}
	a[kind].Set(&it.renew, t)
}

// cancel removes the appointments of a subject.
func (a *agendas) cancel(it *renewalItem) {
	a[it.kind].Cancel(&it.renew)
	a[agendaAsk].Cancel(&it.ask)
}
