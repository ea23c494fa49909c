package loggers

import (
	"context"

	"github.com/sirupsen/logrus"

	"github.com/nostall/nostall/certmgr/audit"
)

func logrusHook(l *logrus.Logger) func(context.Context, audit.Event) {
	return func(_ context.Context, e audit.Event) {
		l.WithField("event", e).Log(logrus.Level(4-e.Level()/4), "certmgr")
	}
}
