package loggers

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"strings"
	"testing"

	"github.com/rs/zerolog"
	"github.com/sirupsen/logrus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/crypto/acme"

	"github.com/nostall/nostall/certmgr"
	"github.com/nostall/nostall/certmgr/acmetest"
	"github.com/nostall/nostall/certmgr/audit"
	"github.com/nostall/nostall/certmgr/cache"
)

// hooks make a hook whose logger writes lines of JSON to w.
var hooks = map[string]func(w io.Writer) func(context.Context, audit.Event){
	"zap": func(w io.Writer) func(context.Context, audit.Event) {
		encoder := zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig())
		return zapHook(zap.New(zapcore.NewCore(encoder, zapcore.AddSync(w), zapcore.DebugLevel)))
	},
	"zerolog": func(w io.Writer) func(context.Context, audit.Event) {
		return zerologHook(zerolog.New(w))
	},
	"logrus": func(w io.Writer) func(context.Context, audit.Event) {
		l := logrus.New()
		l.SetOutput(w)
		l.SetFormatter(&logrus.JSONFormatter{})
		return logrusHook(l)
	},
}

// Each event of a Manager is one line, with the event's level and all that it
// says.
func TestLoggersGetEachEvent(t *testing.T) {
	for name, hook := range hooks {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			var events []audit.Event
			ca := acmetest.NewMemoryServer()
			defer ca.Close()
			m := &certmgr.Manager{
				Prompt: certmgr.AcceptTOS,
				Cache:  new(cache.Memory),
				Hosts:  certmgr.MustAllowlist("www.example.com", "moved.example.com"),
				Client: &acme.Client{DirectoryURL: ca.URL, HTTPClient: ca.Client()},
				Audit: audit.All(hook(&out), func(_ context.Context, e audit.Event) {
					events = append(events, e)
				}),
			}
			ca.Resolve("www.example.com", acmetest.Target{TLSConfig: m.TLSConfig()})
			if err := m.Obtain(t.Context(), "www.example.com"); err != nil {
				t.Error(err)
			}
			if err := m.Obtain(t.Context(), "moved.example.com"); err == nil {
				t.Error("there is a certificate for a name that leads nowhere")
			}
			m.Close() // after it has delivered all events
			checkLines(t, out.String(), events)
		})
	}
}

func checkLines(t *testing.T, out string, events []audit.Event) {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) != len(events) || len(events) == 0 {
		t.Fatalf("%d lines for %d events:\n%s", len(lines), len(events), out)
	}
	levels := make(map[slog.Level]bool)
	for i, e := range events {
		var line struct {
			Level string
			Event json.RawMessage
		}
		if err := json.Unmarshal([]byte(lines[i]), &line); err != nil {
			t.Fatalf("%v: %s", err, lines[i])
		}
		level := strings.ToUpper(line.Level)
		if level == "WARNING" {
			level = "WARN"
		}
		want, err := json.Marshal(e)
		if err != nil || level != e.Level().String() || !bytes.Equal(line.Event, want) {
			t.Errorf("a line says\n%s\nof the event of level %v\n%s", lines[i], e.Level(), want)
		}
		levels[e.Level()] = true
	}
	if !levels[slog.LevelInfo] || !levels[slog.LevelWarn] {
		t.Errorf("the events have only the levels %v", levels)
	}
}

// Every kind of event keeps its level.
func TestLoggersKeepTheLevel(t *testing.T) {
	for name, hook := range hooks {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			var events []audit.Event
			write := hook(&out)
			for _, kind := range audit.Kinds() {
				e := audit.Event{Kind: kind}
				write(t.Context(), e)
				events = append(events, e)
			}
			checkLines(t, out.String(), events)
		})
	}
}
