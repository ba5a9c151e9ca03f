package machine

import (
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"cis490/internal/check"
	"cis490/internal/config"
	"cis490/internal/plain"
)

// FleetCheckEvery is how often fleet-check runs.
const FleetCheckEvery = 5 * time.Minute

// Config is the check of reading a config file.
func Config(path string, err error, unknown []*config.Error) check.Result {
	switch {
	case err != nil:
		return check.Failf("%s", strings.ReplaceAll(err.Error(), "\n", "; "))
	case len(unknown) == 1:
		return check.Warnf("%v", unknown[0])
	case len(unknown) > 1:
		return check.Warnf("%v, and %d more", unknown[0], len(unknown)-1)
	}
	return check.Passf("%s", path)
}

// Expiry is the check of a certificate's remaining life. The last sixth is a warning,
// because it should have been renewed at two thirds.
func Expiry(c *x509.Certificate, now time.Time) check.Result {
	left := c.NotAfter.Sub(now)
	until := plain.Time(c.NotAfter)
	switch {
	case now.Before(c.NotBefore):
		return check.Failf("not valid before %s: is this clock right?", plain.Time(c.NotBefore))
	case left <= 0:
		return check.Failf("expired at %s", until) // without its age, because reports and alerts store this text
	case left < c.NotAfter.Sub(c.NotBefore)/6:
		return check.Warnf("expires at %s and was not renewed", until)
	}
	return check.Passf("until %s, %s left", until, HumanDuration(left))
}

// Future reports whether a stored time is so far after now that a clock was ahead
// then, or is behind now.
func Future(at, now time.Time) bool { return at.After(now.Add(2 * time.Minute)) }

// Fresh checks when fleet-check last ran. More than three intervals are too long, counted
// from since if it never ran.
func Fresh(last, since, now time.Time) check.Result {
	switch most := 3 * FleetCheckEvery; {
	case last.IsZero() && now.Sub(since) <= most:
		return check.Skipf("fleet-check has not run yet; it runs every %s", HumanDuration(FleetCheckEvery))
	case last.IsZero():
		return check.Failf("fleet-check has never run")
	case Future(last, now):
		return check.Failf("fleet-check last ran at %s, which is later than now: the receiver's clock was ahead, or is behind",
			plain.Time(last))
	case now.Sub(last) > most:
		return check.Failf("fleet-check last ran at %s, %s ago", plain.Time(last), HumanDuration(now.Sub(last)))
	}
	return check.Passf("fleet-check last ran at %s", plain.Time(last))
}

// Get expects a 200 to a GET, and reports any other answer.
func Get(ctx context.Context, c *http.Client, base, path string) check.Result {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(base, "/")+path, nil)
	if err != nil {
		return check.Failf("%v", err)
	}
	start := time.Now()
	res, err := c.Do(r)
	if err != nil {
		return check.Failf("%v", err)
	}
	body, _ := io.ReadAll(io.LimitReader(res.Body, 400)) // best effort, for the message
	_ = res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return check.Failf("GET %s%s: %s: %s", base, path, res.Status, body)
	}
	return check.Passf("%s answers in %s", base, time.Since(start).Round(time.Millisecond))
}

// HumanDuration formats a duration for people, in its largest units.
func HumanDuration(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%d days", int(d.Hours()/24))
	case d >= time.Hour:
		return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
	case d >= time.Minute:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	}
	return fmt.Sprintf("%d s", int(d.Seconds()))
}
