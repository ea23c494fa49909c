package certmgr_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/internal/hosts"
)

// fileWorld is a bubble whose Manager has its list from a file.
func fileWorld(t *testing.T, content string, f func(t *testing.T, w *world, path string)) {
	t.Helper()
	path := writeHosts(t, content)
	inBubble(t, func(t *testing.T, w *world) {
		a, err := certmgr.OpenAllowlist(path)
		if err != nil {
			t.Fatal(err)
		}
		w.m.Hosts = a
		w.mustGet("a.example.com")
		time.Sleep(time.Minute) // what was written a moment before it was read is read twice
		f(t, w, path)
	})
}

// looks is long enough for a changed file to be noticed and found unchanged.
const looks = 3 * hosts.PollEvery

func TestChangedFileIsReloaded(t *testing.T) {
	fileWorld(t, "a.example.com\nb.example.com\n", func(t *testing.T, w *world, path string) {
		if e := w.events.of(audit.AllowlistReloaded); len(e) != 0 {
			t.Errorf("a file that did not change: %v", e)
		}
		replaceFile(t, path, "b.example.com\nc.example.com\n*.example.org\n")
		time.Sleep(looks)
		w.wantErr("a.example.com", certmgr.ErrHostNotAllowed)
		w.mustGet("c.example.com")
		e := w.events.of(audit.AllowlistReloaded)
		if len(e) != 1 || e[0].Count != 3 || !strings.Contains(e[0].Reason, "hosts.txt") {
			t.Errorf("events: %v", e)
		}
		listed, unlisted := w.events.of(audit.HostListed), w.events.of(audit.HostUnlisted)
		if len(listed) != 2 || len(unlisted) != 1 || unlisted[0].Host != "a.example.com" || !strings.Contains(unlisted[0].Reason, path) {
			t.Errorf("events: %v %v", listed, unlisted)
		}
		// Touched, but the same: nothing to say.
		now := time.Now().Add(time.Hour)
		if err := os.Chtimes(path, now, now); err != nil {
			t.Fatal(err)
		}
		time.Sleep(looks)
		if e := w.events.of(audit.AllowlistReloaded); len(e) != 1 {
			t.Errorf("events: %v", e)
		}
		// Added by the program: until the file changes.
		w.m.Hosts.Add("d.example.com")
		time.Sleep(time.Minute)
		w.mustGet("d.example.com")
		replaceFile(t, path, "b.example.com\n")
		time.Sleep(looks)
		w.wantErr("d.example.com", certmgr.ErrHostNotAllowed)
	})
}

// A file that is being written is left alone until it rests.
func TestFileThatIsBeingWrittenIsNotRead(t *testing.T) {
	fileWorld(t, "a.example.com\n", func(t *testing.T, w *world, path string) {
		content := ""
		for i := range 20 {
			content += fmt.Sprintf("h%d.example.com\n", i)
			rewrite(t, path, content)
			time.Sleep(hosts.PollEvery)
			if !w.m.Hosts.Contains("a.example.com") {
				t.Fatalf("a file was read of which %d of 20 lines were written", i+1)
			}
		}
		rewrite(t, path, content+"a.example.com\n")
		time.Sleep(looks)
		if !w.m.Hosts.Contains("h19.example.com") || len(w.events.of(audit.AllowlistReloaded)) != 1 {
			t.Error("the whole file was not read")
		}
	})
}

// A bad file is refused whole, with one event for each content.
func TestBadFileKeepsTheLastGoodList(t *testing.T) {
	t.Parallel()
	bad := map[string]func(t *testing.T, path string){
		"a bad line": func(t *testing.T, path string) { replaceFile(t, path, "z.example.com\ncom\n") },
		"cut short":  func(t *testing.T, path string) { rewrite(t, path, "") },
		"missing":    func(t *testing.T, path string) { os.Remove(path) },
		"a directory": func(t *testing.T, path string) {
			os.Remove(path)
			os.Mkdir(path, 0o755)
		},
		"too large": func(t *testing.T, path string) { os.Truncate(path, hosts.MaxFileSize+1) },
	}
	for name, spoil := range bad {
		t.Run(name, func(t *testing.T) {
			fileWorld(t, "a.example.com\n", func(t *testing.T, w *world, path string) {
				spoil(t, path)
				time.Sleep(time.Hour)
				w.mustGet("a.example.com")
				e := w.events.of(audit.AllowlistRejected)
				if len(e) != 1 || e[0].Err == nil || !strings.Contains(e[0].Err.Error(), path) || !e[0].IsFailure() {
					t.Fatalf("events of a bad file in an hour: %v", e)
				}
				if name == "a bad line" && !strings.Contains(e[0].String(), "hosts.txt:2:") {
					t.Errorf("%v does not say which line", e[0])
				}
				if err := w.m.Hosts.Reload(); err == nil {
					t.Error("Reload took it")
				}
				if n := len(w.events.of(audit.AllowlistRejected)); n != 1 {
					t.Errorf("%d events of one content", n)
				}
				// Good again, and the same as before: that is said.
				os.Remove(path)
				replaceFile(t, path, "a.example.com\n")
				time.Sleep(looks)
				if e := w.events.of(audit.AllowlistReloaded); len(e) != 1 || e[0].Count != 1 {
					t.Errorf("events of the repair: %v", e)
				}
				// Another bad content is another event.
				replaceFile(t, path, "a.example.com\nnet\n")
				time.Sleep(looks)
				if n := len(w.events.of(audit.AllowlistRejected)); n != 2 {
					t.Errorf("%d events of two contents", n)
				}
			})
		})
	}
}

// A file that is away for a moment, as between two steps of a deployment, is no event.
func TestFileThatIsAwayForAMomentIsNoEvent(t *testing.T) {
	fileWorld(t, "a.example.com\n", func(t *testing.T, w *world, path string) {
		if err := os.Rename(path, path+".old"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(hosts.PollEvery)
		if err := os.Rename(path+".old", path); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if e := w.events.of(audit.AllowlistRejected); len(e) != 0 {
			t.Errorf("events: %v", e)
		}
	})
}

// Two Managers share a list: each tells of the reload, and it is read once.
func TestManagersShareAFile(t *testing.T) {
	fileWorld(t, "a.example.com\n", func(t *testing.T, w *world, path string) {
		other := w.manager()
		events := new(recorder)
		other.Hosts, other.Audit = w.m.Hosts, events.hook
		if err := other.Obtain(t.Context(), "a.example.com"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(hosts.PollEvery / 2) // they look at different times
		begun := certmgr.BeginReading(w.m.Hosts)
		replaceFile(t, path, "a.example.com\nb.example.com\n")
		time.Sleep(looks)
		if n := certmgr.BeginReading(w.m.Hosts) - begun - 1; n != 1 {
			t.Errorf("the file was read %d times", n)
		}
		if len(w.events.of(audit.AllowlistReloaded)) != 1 || len(events.of(audit.AllowlistReloaded)) != 1 {
			t.Error("not both Managers told of the reload")
		}
		if err := other.Close(); err != nil {
			t.Fatal(err)
		}
		replaceFile(t, path, "a.example.com\n")
		time.Sleep(looks)
		if len(w.events.of(audit.AllowlistReloaded)) != 2 || len(events.of(audit.AllowlistReloaded)) != 1 {
			t.Error("a closed Manager told of a reload, or the other one did not")
		}
	})
}

// A look at the file that does not come back is an event, once.
func TestFileSystemThatHangsIsAnEvent(t *testing.T) {
	fileWorld(t, "a.example.com\n", func(t *testing.T, w *world, path string) {
		cause := errors.New("did not return")
		for range 3 {
			certmgr.HangFile(w.m.Hosts, cause)
		}
		if e := w.events.of(audit.AllowlistRejected); len(e) != 1 || !errors.Is(e[0].Err, cause) {
			t.Errorf("events: %v", e)
		}
		time.Sleep(looks)
		if e := w.events.of(audit.AllowlistReloaded); len(e) != 1 {
			t.Errorf("events when it came back: %v", e)
		}
	})
}
