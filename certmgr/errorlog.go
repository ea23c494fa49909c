package certmgr

import (
	"bytes"
	"context"
	"log"

	"github.com/nostall/nostall/certmgr/audit"
)

// ErrorLog returns a logger for http.Server.ErrorLog that writes to next, without
// the lines that net/http adds for handshakes that GetCertificate refused:
//
//	http: TLS handshake error from 192.0.2.1:1234: certmgr: backing off: ...
//
// Without it there is one for each visitor of a host that has no certificate.
// The audit trail tells the same once: the failure with its cause, and the
// refused handshakes as a number and an example, at most once a minute for each
// audit.Result. If Audit is nil, these go to slog.Default() as well.
//
// Everything else passes: other errors of TLS, errors of HostPolicy, panics of
// handlers, lines of HTTP/2. An error of HostPolicy whose text begins with
// "certmgr: ", since it wraps one of this package first, counts as this package's.
//
// Nil means log.Default(), as for http.Server. Prefix and flags are those of next;
// set none on the returned logger. It is safe for concurrent use. Like TLSConfig,
// ErrorLog may be called before the Manager's fields are set. Servers of several
// Managers may share a logger: call ErrorLog of each, and pass the result of one
// to the next.
func (m *Manager) ErrorLog(next *log.Logger) *log.Logger {
	if next == nil {
		next = log.Default()
	}
	m.tellRefusals.Store(true)
	return log.New(errorLog{next}, "", 0)
}

// errorLog is the writer of a log.Logger, which writes each message in one call.
type errorLog struct{ next *log.Logger }

// errorLogDepth leads log.Output from Write to the caller of the returned
// logger's Printf, over log's output and Printf itself.
const errorLogDepth = 4

func (l errorLog) Write(message []byte) (int, error) {
	if isRefusalLine(message) {
		return len(message), nil
	}
	if err := l.next.Output(errorLogDepth, string(message)); err != nil {
		return 0, err
	}
	return len(message), nil
}

// isRefusalLine reports whether a message of net/http is about an error of
// GetCertificate. Only its beginning decides, since clients choose parts of many
// errors; this package's are one line.
func isRefusalLine(message []byte) bool {
	rest, found := bytes.CutPrefix(message, []byte("http: TLS handshake error from "))
	if !found || bytes.IndexByte(message, '\n') != len(message)-1 {
		return false
	}
	_, reason, _ := bytes.Cut(rest, []byte(": ")) // which no address contains
	return bytes.HasPrefix(reason, []byte(ownName+": "))
}

// auditHook returns the current hook, or nil if failures alone are to be logged.
func (m *Manager) auditHook() func(context.Context, audit.Event) {
	if m.Audit == nil && m.tellRefusals.Load() {
		return logFailuresAndRefusals
	}
	return m.Audit
}

func logFailuresAndRefusals(ctx context.Context, e audit.Event) {
	if e.IsFailure() || e.Kind == audit.HandshakesRefused {
		audit.Log(nil)(ctx, e)
	}
}
