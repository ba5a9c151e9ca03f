package machine

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/coreos/go-systemd/v22/login1"
)

// ErrNoLogind means that logind is not available.
var ErrNoLogind = errors.New("logind is not available")

// Sleeps calls change before the machine goes to sleep and after it resumes, until the
// context ends. If logind permits it, sleep is delayed until change returns, by at most a
// few seconds.
func Sleeps(ctx context.Context, change func(asleep bool)) error {
	conn, err := login1.New()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNoLogind, err)
	}
	defer conn.Close()
	signals := conn.Subscribe("PrepareForSleep")
	// Without permission (a user without a session) the message races the sleep.
	inhibit := func() *os.File {
		f, _ := conn.Inhibit("sleep", "cis490", "tells the receiver first", "delay")
		return f
	}
	lock := inhibit()
	defer func() { _ = lock.Close() }() // works with nil
	for {
		select {
		case <-ctx.Done():
			return nil
		case s, ok := <-signals:
			if !ok {
				return fmt.Errorf("%w: the connection ended", ErrNoLogind)
			}
			if len(s.Body) != 1 {
				continue
			}
			asleep, _ := s.Body[0].(bool)
			change(asleep)
			if asleep {
				_ = lock.Close()
			} else {
				lock = inhibit()
			}
		}
	}
}
