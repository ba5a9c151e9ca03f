package commands

import (
	"context"
	"log/slog"
	"time"

	"cis490/internal/config"
	"cis490/receiver/fleet"
	"cis490/receiver/notify"
)

// deliver tells the targets of [notify] what a run of fleet-check found. That one
// of them cannot be told is no failure of the run: it is logged, a check of the
// receiver finds it, and the next run tries again.
func (a *app) deliver(ctx context.Context, conf config.Receiver, r fleet.Result, log *slog.Logger) map[string]notify.State {
	targets := notify.Targets(conf.Notify)
	if beat, ok := notify.Beat(conf.Notify); ok {
		targets = append(targets, beat)
	}
	if len(targets) == 0 {
		return nil
	}
	states, err := notify.Deliver(ctx, notify.Options{
		Memory: r.Memory, Alerts: r.Alerts, Now: r.At, Open: r.Open, Unwritten: r.Unwritten, SyslogErr: r.SyslogErr,
		RepeatAfter: conf.Notify.RepeatAfter.D(), Together: fleet.LimitsOf(conf).Together(),
		Wait: func(ctx context.Context, attempt int) error {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(time.Duration(attempt*attempt) * time.Second):
				return nil
			}
		},
		Log: log,
	}, targets)
	if err != nil {
		log.Error("what was told is not remembered, and is told again", "err", err)
	}
	return states
}
