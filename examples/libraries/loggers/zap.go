// Package loggers brings a Manager's events to loggers other than log/slog. Each
// function returns a hook for Manager.Audit. The levels of the loggers differ by
// a factor and an offset.
package loggers

import (
	"context"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/nostall/nostall/certmgr/audit"
)

func zapHook(l *zap.Logger) func(context.Context, audit.Event) {
	return func(_ context.Context, e audit.Event) {
		l.Log(zapcore.Level(e.Level()/4), "certmgr", zap.Reflect("event", e))
	}
}
