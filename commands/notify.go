package commands

import (
	"context"
	"log/slog"
	"time"

	"cis490/internal/config"
	"cis490/receiver/fleet"
	"cis490/receiver/notify"
)

// deliver sends the alerts of a run of fleet-check to the targets of [notify]. A target
// that fails does not fail the run: the failure is logged, a check of the receiver
// reports it, and the next run retries.
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
		log.Error("cannot store what was notified; notifications may repeat", "err", err)
	}
	return states
}
