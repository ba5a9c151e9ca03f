package machine

import (
	"cis490/internal/check"
	"cis490/internal/plain"
	"cis490/internal/wire"
)

// Updates is the check of the status that autoupdate wrote.
func Updates(u *wire.Update, err error) check.Result {
	switch {
	case err != nil:
		return Unreadable(err)
	case u == nil:
		return check.Skipf("autoupdate has not run yet")
	case u.Refused != "":
		return check.Warnf("the offered release was rejected: %s", u.Refused)
	case u.Trial != nil && u.Trial.Waiting != "":
		return check.Passf("version %s is on trial since %s, waiting for %s",
			u.Trial.Version, plain.Time(u.Trial.Since), u.Trial.Waiting)
	case u.Trial != nil:
		return check.Passf("version %s is on trial since %s, observed for %.0f of %.0f s",
			u.Trial.Version, plain.Time(u.Trial.Since), u.Trial.Observed, u.Trial.Needs)
	}
	if n := len(u.RolledBack); n > 0 && u.RolledBack[n-1].Seq > u.Good.Seq {
		b := u.RolledBack[n-1]
		return check.Warnf("version %s was rolled back at %s: %s", b.Version, plain.Time(b.At), b.Why)
	}
	if u.Good.Version == "" {
		return check.Passf("no version has passed its trial yet")
	}
	return check.Passf("version %s", u.Good.Version)
}
