package notify

import (
	"context"
	"time"

	"cis490/internal/config"
)

// All returns the targets of a config, the heartbeat last.
func All(c config.Notify) []Target {
	all := Targets(c)
	if beat, ok := Beat(c); ok {
		all = append(all, beat)
	}
	return all
}

// SendTest sends a test notification to one target, with a timeout. A target that keeps alerts
// itself gets its usual request without any alert. The error contains no secret.
func SendTest(ctx context.Context, t Target, now time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, perSend)
	defer cancel()
	if t.Send == nil {
		return t.Sync(ctx, now, nil, nil)
	}
	return t.Send(ctx, Message{
		Key: "test-" + now.UTC().Format("20060102T150405Z"), At: now.UTC(), State: "resolved",
		Title: "[TEST] cis490: notifications of this receiver arrive", Text: "Sent by `cis490 notify test`. Nothing is wrong.",
	})
}
