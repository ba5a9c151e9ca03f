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

// ClockSynced is the check that something keeps the machine's clock right. A service's
// sandbox may not ask the kernel (ProtectClock=yes blocks adjtimex(2)), so there it asks
// systemd-timedated. It skips in a container, whose clock is the host's.
func ClockSynced(ctx context.Context) check.Result {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	if err == nil {
		synced := state != unix.TIME_ERROR && t.Status&unix.STA_UNSYNC == 0
		return synchronized(synced, fmt.Sprintf(", maximum error %s", time.Duration(t.Maxerror)*time.Microsecond))
	}
	if _, cerr := (disk.OS{}).Stat("/run/systemd/container"); cerr == nil || !errors.Is(err, unix.EPERM) {
		return check.Skipf("query the kernel: %v", err)
	}
	synced, err := askTimedated(ctx)
	if err != nil {
		return check.Skipf("query systemd-timedated: %v", err)
	}
	return synchronized(synced, "")
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
