package loggers

import (
	"context"

	"github.com/rs/zerolog"

	"github.com/nostall/nostall/certmgr/audit"
)

func zerologHook(l zerolog.Logger) func(context.Context, audit.Event) {
	return func(_ context.Context, e audit.Event) {
		l.WithLevel(zerolog.Level(e.Level()/4+1)).Interface("event", e).Msg("certmgr")
	}
}
