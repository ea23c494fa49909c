package certmgr

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"testing"
)

// lateError is an error of the user's that says whether it is a timeout.
type lateError bool

func (e lateError) Error() string { return "late" }

func (e lateError) Timeout() bool { return bool(e) }

// What says that a policy could not decide, and what is a refusal.
func TestWhatIsUndecided(t *testing.T) {
	for _, err := range []error{
		ErrPolicy, context.DeadlineExceeded, context.Canceled, os.ErrDeadlineExceeded, lateError(true),
		fmt.Errorf("database: %w", ErrPolicy),
		fmt.Errorf("database: %w", lateError(true)),
		&net.OpError{Op: "dial", Net: "tcp", Err: os.ErrDeadlineExceeded},
		&net.DNSError{Err: "i/o timeout", IsTimeout: true},
		errors.Join(errors.New("first"), &net.OpError{Op: "read", Err: errors.New("reset")}, lateError(true)),
		fmt.Errorf("%w after %w", errors.New("refused"), context.DeadlineExceeded),
	} {
		if !isUndecided(err) {
			t.Errorf("%v counts as a refusal", err)
		}
	}
	for _, err := range []error{
		errors.New("not a customer"), ErrHostNotAllowed, fs.ErrNotExist, lateError(false),
		&net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")},
		errors.Join(errors.New("no"), lateError(false)),
	} {
		if isUndecided(err) {
			t.Errorf("%v counts as no decision", err)
		}
	}
}
