package machine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"

	"cis490/internal/check"
	"cis490/internal/disk"
)

// ClockFix is the fix for a wrong clock, for any machine: set-ntp alone fails where no time
// service is installed. It is the only text that names set-ntp.
const ClockFix = "sudo timedatectl set-ntp true || sudo apt-get install -y systemd-timesyncd || " +
	"{ sudo dnf install -y chrony && sudo systemctl enable --now chronyd; }   # a container uses the clock of its machine: run it there; " +
	"without network time: sudo date -s '…'"

// ClockSynced is the check that something keeps the machine's clock right. It skips in a
// container, whose clock is the host's.
func ClockSynced(ctx context.Context) check.Result {
	c, err := ReadClock(ctx)
	switch {
	case err != nil:
		return check.Skipf("%v", err)
	case c.MaxErrorUS > 0:
		return synchronized(c.Synchronized, fmt.Sprintf(", maximum error %s", time.Duration(c.MaxErrorUS)*time.Microsecond))
	}
	return synchronized(c.Synchronized, "")
}

// Clock is the state of the machine's clock.
type Clock struct {
	Synchronized bool  `json:"synchronized"`
	MaxErrorUS   int64 `json:"max_error_us,omitempty"` // as the kernel estimates it; 0: unknown
}

// ReadClock reads the clock's state. A service's sandbox may not ask the kernel
// (ProtectClock=yes blocks adjtimex(2)), so there it asks systemd-timedated.
func ReadClock(ctx context.Context) (Clock, error) {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	if err == nil {
		return Clock{state != unix.TIME_ERROR && t.Status&unix.STA_UNSYNC == 0, int64(t.Maxerror)}, nil
	}
	if _, cerr := (disk.OS{}).Stat("/run/systemd/container"); cerr == nil || !errors.Is(err, unix.EPERM) {
		return Clock{}, fmt.Errorf("query the kernel: %w", err)
	}
	synced, err := askTimedated(ctx)
	if err != nil {
		return Clock{}, fmt.Errorf("query systemd-timedated: %w", err)
	}
	return Clock{Synchronized: synced}, nil
}

func synchronized(synced bool, detail string) check.Result {
	if !synced {
		return check.Warnf("the kernel's clock is not synchronized")
	}
	return check.Passf("synchronized%s", detail)
}

// askTimedated returns NTPSynchronized of org.freedesktop.timedate1(5).
func askTimedated(ctx context.Context) (synced bool, err error) {
	const name = "org.freedesktop.timedate1"
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	bus, err := dbus.ConnectSystemBus(dbus.WithContext(ctx))
	if err != nil {
		return false, err
	}
	defer func() { _ = bus.Close() }() // only read
	err = bus.Object(name, "/org/freedesktop/timedate1").
		CallWithContext(ctx, "org.freedesktop.DBus.Properties.Get", 0, name, "NTPSynchronized").Store(&synced)
	return synced, err
}
