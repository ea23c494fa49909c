package certmgr

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"time"
)

// MayResume reports whether a server may resume a TLS session with a client
// that asks for cs.ServerName. A resumed session requests no certificate, so
// GetCertificate is not called, and a client from before would be served on
// after its host was removed from the list, refused by HostPolicy, or has no
// valid certificate any more.
//
// It is false without a server name, for a name that is not a host name, and
// unless GetCertificate would serve the host from memory alone. A full
// handshake decides then. So it costs no I/O and no wait, and is the same after
// Close. It counts as a visit to the host, and not as a handshake. It is safe
// for concurrent use.
//
// TLSConfig calls it. A configuration of one's own must do so in UnwrapSession,
// as the example shows; see TLSConfig for what else that one does.
func (m *Manager) MayResume(cs tls.ConnectionState) bool {
	m.init()
	s := m.engine.server
	host, entry, err := s.memory.lookUp(cs.ServerName)
	if err != nil {
		return s.own.mayResume(ownHost(cs.ServerName))
	}
	return !gotFallback(s, host, ticketsFor) && s.mayResume(host, entry)
}

// gotFallback reports whether Manager.Fallback was served for a name less than d
// ago.
func gotFallback(s *server, name string, d time.Duration) bool {
	if s.settings.fallback == nil {
		return false
	}
	host, _, err := s.memory.lookUp(name)
	return err == nil && hadFallback(s.visits, host, d, s.now())
}

// mayResume is the hot path without a certificate.
func (s *server) mayResume(host string, entry *hostEntry) bool {
	if s.own != nil && s.own.mayResume(host) {
		return true
	}
	now := s.now()
	hot := entry.hot(allKeys, now)
	if hot == nil || !s.gate.stillAllowed(host, entry, now, nil) {
		return false
	}
	s.noteVisit(host, entry, entry.first, now) // it needs none, if any could tell
	return true
}

// sessions encrypts and decrypts the session tickets of a configuration and of
// its clones, which share its ticket keys: a clone does not know its own
// functions, nor they the clone.
type sessions struct {
	server func() *server // of the Manager, whose first use this may be
	config *tls.Config

	// spare encrypts for clones if the tickets of config itself were turned off
	// after it was cloned.
	spare tls.Config
}

// wrap is config's WrapSession.
func (s *sessions) wrap(cs tls.ConnectionState, session *tls.SessionState) ([]byte, error) {
	server := s.server()
	mark := sessionMark{made: server.now(), ours: cs.ServerName != "" || server.handshakes.unnamed.Load()}
	mark.fallback = gotFallback(server, cs.ServerName, fallbackFor)
	session.Extra = append(session.Extra, mark.encode())
	ticket, err := s.config.EncryptTicket(cs, session)
	if err != nil {
		return s.spare.EncryptTicket(cs, session)
	}
	return ticket, nil
}

// unwrap is config's UnwrapSession. A session that must not be resumed is no
// error: a full handshake follows, which GetCertificate refuses as any other.
func (s *sessions) unwrap(ticket []byte, cs tls.ConnectionState) (*tls.SessionState, error) {
	session, _ := s.config.DecryptTicket(ticket, cs)
	if session == nil {
		session, _ = s.spare.DecryptTicket(ticket, cs)
	}
	if session == nil || !s.mayResume(markOf(session), cs) {
		return nil, nil
	}
	return session, nil
}

func (s *sessions) mayResume(mark sessionMark, cs tls.ConnectionState) bool {
	if cs.ServerName == "" {
		// Otherwise its certificate is one of config.Certificates. Which host one
		// of the Manager is for, nobody knows here: a full handshake does.
		return !mark.ours
	}
	server := s.server()
	host, entry, err := server.memory.lookUp(cs.ServerName)
	if err != nil {
		return server.own.mayResume(ownHost(cs.ServerName))
	}
	return !mark.fallback && mark.made.After(server.memory.lastRevoked(host)) && server.mayResume(host, entry)
}

// sessionMark is what a ticket says beyond its session. Tickets of other
// programs with the same keys have none.
type sessionMark struct {
	made time.Time // not before the handshake that the session began with, nor before one that resumed it
	ours bool      // its certificate is, or may be, the Manager's

	fallback bool // the handshake may have got Manager.Fallback
}

// markPrefix tells a mark from other data in tls.SessionState.Extra.
const markPrefix = "nostall1"

// The bits of a mark.
const (
	markOurs     = 1
	markFallback = 2
)

func (m sessionMark) encode() []byte {
	b := append([]byte(markPrefix), 0)
	if m.ours {
		b[len(markPrefix)] |= markOurs
	}
	if m.fallback {
		b[len(markPrefix)] |= markFallback
	}
	return binary.BigEndian.AppendUint64(b, uint64(m.made.UnixNano()))
}

// markOf returns the mark of a session. Without one, it is as old as can be,
// and may be the Manager's.
func markOf(session *tls.SessionState) sessionMark {
	for _, extra := range session.Extra {
		if b, ok := bytes.CutPrefix(extra, []byte(markPrefix)); ok && len(b) == 9 {
			return sessionMark{made: time.Unix(0, int64(binary.BigEndian.Uint64(b[1:]))), ours: b[0]&markOurs != 0, fallback: b[0]&markFallback != 0}
		}
	}
	return sessionMark{made: time.Unix(0, 0), ours: true}
}
