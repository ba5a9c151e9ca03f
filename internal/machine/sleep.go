package machine

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/coreos/go-systemd/v22/login1"
)

// ErrNoLogind tells that the machine has no logind that can be asked.
var ErrNoLogind = errors.New("logind cannot be asked here")

// Sleeps calls change before the machine goes to sleep and after it is back,
// until the context ends. Where logind permits it, going to sleep waits for
// change (at most the few seconds that logind allows).
func Sleeps(ctx context.Context, change func(asleep bool)) error {
	conn, err := login1.New()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNoLogind, err)
	}
	defer conn.Close()
	signals := conn.Subscribe("PrepareForSleep")
	// Refused, as to a user without a session it may be, the message races the
	// sleep: no worse than before.
	inhibit := func() *os.File {
		f, _ := conn.Inhibit("sleep", "cis490", "tells the receiver first", "delay")
		return f
	}
	lock := inhibit()
	defer func() { _ = lock.Close() }() // nil is fine: os.File says so
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
