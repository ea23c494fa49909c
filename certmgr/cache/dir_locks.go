package cache

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// dirLocks are the locks in a directory. Each lock that is taken has a lease
// file, which is read and changed by whoever has locked one of the stripe files.
// A stripe file has the last token of all locks that belong to it. It is removed when
// a lock is given back: the next token is the time then.
type dirLocks string

// leaseFile is the content of a lease file.
type leaseFile struct {
	Name  string        `json:"name"` // for those who read the file
	Owner string        `json:"owner"`
	Host  string        `json:"host"` // of the process that took it
	Token int64         `json:"token"`
	End   time.Time     `json:"end"`
	TTL   time.Duration `json:"ttl"` // with which it was taken or last extended
}

// remaining returns how long the lease lasts. A clock that was set back does not
// make that more than its ttl.
func (l leaseFile) remaining(now time.Time) time.Duration {
	return min(l.End.Sub(now), l.TTL)
}

// Lease files are named leasePrefix, the SHA-256 of the lock's name in
// hexadecimal, tempSuffix; stripe files stripePrefix, the first digit of that,
// tempSuffix. So no two names have the same file, on any file system.
const (
	leasePrefix  = ".lease-"
	stripePrefix = ".locks-"
)

// isLease reports whether a file has the name of a lease file.
func isLease(name string) bool {
	sum, ok := strings.CutPrefix(name, leasePrefix)
	sum, ok2 := strings.CutSuffix(sum, tempSuffix)
	return ok && ok2 && len(sum) == 2*sha256.Size && isHex(sum)
}

// isStripe reports whether a file has the name of a stripe file.
func isStripe(name string) bool {
	digit, ok := strings.CutPrefix(name, stripePrefix)
	digit, ok2 := strings.CutSuffix(digit, tempSuffix)
	return ok && ok2 && len(digit) == 1 && isHex(digit)
}

func isHex(s string) bool { return strings.Trim(s, "0123456789abcdef") == "" }

// files returns the paths of a lock's lease file and stripe file.
func (d dirLocks) files(name string) (lease, stripe string) {
	sum := sha256.Sum256([]byte(name))
	digits := hex.EncodeToString(sum[:])
	return filepath.Join(string(d), leasePrefix+digits+tempSuffix), d.stripe(digits)
}

func (d dirLocks) stripe(digits string) string {
	return filepath.Join(string(d), stripePrefix+digits[:1]+tempSuffix)
}

// take takes a lock and returns its token, and its lease file or nil.
func (d dirLocks) take(ctx context.Context, name, owner string, ttl time.Duration) (int64, *os.File, error) {
	if err := makeDir(string(d)); err != nil {
		return 0, nil, err
	}
	path, stripePath := d.files(name)
	stripe, err := lockStripe(ctx, stripePath)
	if err != nil {
		return 0, nil, err
	}
	defer stripe.Close()
	old, err := readLease(path)
	if err != nil {
		return 0, nil, err
	}
	now := time.Now().Round(0) // by the wall clock, which processes share
	if left := old.remaining(now); left > 0 && !old.isAbandoned(path) {
		if old.End.After(now.Add(left)) { // the clock was set back
			old.End = now.Add(left)
			if err := rewriteLease(path, old); err != nil {
				return 0, nil, err
			}
		}
		return 0, nil, &HeldError{Name: name, Owner: old.Owner, Remaining: left}
	}
	token, err := nextToken(stripe, old.Token, now)
	if err != nil {
		return 0, nil, err
	}
	// Nobody waits for the lock of somebody who has left.
	if err := ctx.Err(); err != nil {
		return 0, nil, err
	}
	file, err := createLease(path, leaseFile{
		Name:  name,
		Owner: owner,
		Host:  thisHost(),
		Token: token,
		End:   now.Add(ttl),
		TTL:   ttl,
	})
	return token, file, err
}

// with calls f while the lease with a token has the lock of a name, and keeps it
// that way until f returns. Else the error is [ErrLost].
func (d dirLocks) with(ctx context.Context, name string, token int64, f func(stripe *os.File, path string, l leaseFile) error) error {
	path, stripePath := d.files(name)
	stripe, err := lockStripe(ctx, stripePath)
	if errors.Is(err, fs.ErrNotExist) { // the directory was removed
		return fmt.Errorf("lock %q: %w: %w", name, ErrLost, err)
	}
	if err != nil {
		return err
	}
	defer stripe.Close()
	l, err := readLease(path)
	if err != nil {
		return err
	}
	if l.Token != token || l.remaining(time.Now().Round(0)) <= 0 {
		return fmt.Errorf("lock %q: %w", name, ErrLost)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return f(stripe, path, l)
}

func (d dirLocks) extend(ctx context.Context, name string, token int64, ttl time.Duration) error {
	return d.with(ctx, name, token, func(_ *os.File, path string, l leaseFile) error {
		l.End, l.TTL = time.Now().Round(0).Add(ttl), ttl
		return rewriteLease(path, l)
	})
}

func (d dirLocks) release(ctx context.Context, name string, token int64) error {
	return d.with(ctx, name, token, func(stripe *os.File, path string, _ leaseFile) error {
		if err := os.Remove(path); err != nil {
			return err
		}
		// Nothing is left behind, if the system can remove open files: autocert's
		// users know each file of their directory. Whoever waits for the stripe
		// file makes a new one.
		if last, err := lastToken(stripe); err == nil && isPast(last) {
			_, stripePath := d.files(name)
			_ = os.Remove(stripePath)
		}
		return nil
	})
}

// isPast waits a moment until a token, which is a time in microseconds, is less than
// the next one will be. If it takes longer, the clock was set back.
func isPast(token int64) bool {
	const most = time.Millisecond
	wait := time.Duration(token-time.Now().UnixMicro()+1) * time.Microsecond
	if wait > most {
		return false
	}
	time.Sleep(wait)
	return true
}

// removeEnded removes a lease file whose lease ended before a time: its holder
// was killed.
func (d dirLocks) removeEnded(ctx context.Context, file string, before time.Time) error {
	stripe, err := lockStripe(ctx, d.stripe(strings.TrimPrefix(file, leasePrefix)))
	if err != nil {
		return err
	}
	defer stripe.Close()
	path := filepath.Join(string(d), file)
	if l, err := readLease(path); err != nil || !l.End.Before(before) {
		return err
	}
	return os.Remove(path)
}

// readLease returns the content of a lease file. No file, and one that a power
// failure has damaged, is a lease that has ended: its holder ended with the
// machine.
func readLease(path string) (l leaseFile, err error) {
	data, err := read(path)
	if errors.Is(err, fs.ErrNotExist) {
		return leaseFile{}, nil
	}
	if err != nil {
		return leaseFile{}, err
	}
	if json.Unmarshal(data, &l) != nil {
		return leaseFile{}, nil
	}
	return l, nil
}

// leaseSize is what a lease file is padded to, so that a shorter content leaves
// nothing of a longer one behind: it is written in one step.
const leaseSize = 1024

// write writes the content of a lease file.
func (l leaseFile) write(f *os.File) error {
	data, err := json.Marshal(l)
	if err != nil {
		return err
	}
	if n := leaseSize - 1 - len(data); n > 0 {
		data = append(data, strings.Repeat(" ", n)...)
	}
	data = append(data, '\n')
	if _, err := f.WriteAt(data, 0); err != nil {
		return err
	}
	return f.Truncate(int64(len(data))) // the names may be longer than that
}

// nextToken returns a token that is larger than all before it, and writes it to
// the stripe file. If that was deleted, the time in microseconds is larger too.
func nextToken(stripe *os.File, last int64, now time.Time) (int64, error) {
	n, err := lastToken(stripe)
	if err != nil {
		return 0, err
	}
	token := max(last+1, n+1, now.UnixMicro(), 1)
	if _, err := fmt.Fprintf(io.NewOffsetWriter(stripe, 0), "%0*d\n", tokenDigits, token); err != nil {
		return 0, err
	}
	return token, nil
}

// tokenDigits is the length of a token in a stripe file.
const tokenDigits = 20

// lastToken returns the token in a stripe file, or 0 if that is new or damaged.
func lastToken(stripe *os.File) (int64, error) {
	data, err := io.ReadAll(io.NewSectionReader(stripe, 0, tokenDigits))
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(string(bytes.TrimSpace(data)), 10, 64)
	if err != nil {
		return 0, nil
	}
	return n, nil
}

// How often a stripe file that is locked is tried. A system call that waits for it
// could not be ended with its context.
const (
	firstStripeWait = 500 * time.Microsecond
	mostStripeWait  = 20 * time.Millisecond
)

// lockStripe locks a stripe file, which it creates if it is missing, and opens it.
// The lock ends when the file is closed, and with the process.
func lockStripe(ctx context.Context, path string) (*os.File, error) {
	for wait := firstStripeWait; ; wait = min(2*wait, mostStripeWait) {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, err
		}
		locked, err := tryLockFile(f)
		if err == nil && locked && isAt(f, path) {
			return f, nil
		}
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, fmt.Errorf("waiting for the lock of %s, which a process has that may be stopped: %w", path, ctx.Err())
		}
	}
}

// isAt reports whether an open file still has its name: another one may have been
// created after it was deleted.
func isAt(f *os.File, path string) bool {
	opened, err := f.Stat()
	if err != nil {
		return false
	}
	named, err := os.Stat(path)
	return err == nil && os.SameFile(opened, named)
}
