package fleet

import (
	"fmt"
	"time"

	"cis490/internal/check"
	"cis490/internal/ident"
	"cis490/internal/machine"
	"cis490/internal/plain"
	"cis490/internal/wire"
	"cis490/receiver/roster"
)

// Forecast describes what one host's facts mean: its last health report, and what will
// happen next if nobody acts.
type Forecast struct {
	Snapshot time.Time `json:"snapshot,omitzero"` // when the last one was received
	Failing  []string  `json:"failing,omitempty"` // ids of hard checks, by the newest report or ping
	Next     []string  `json:"next"`
}

// Forecast returns the forecast for a host.
func (f *Facts) Forecast(name ident.Host) Forecast {
	h := f.Hosts[name]
	if h == nil {
		return Forecast{Next: []string{}}
	}
	o := Forecast{Snapshot: h.Snapshot.At}
	o.Failing, _ = h.failing(f)
	add := func(format string, args ...any) { o.Next = append(o.Next, fmt.Sprintf(format, args...)) }
	if r := h.Roster; r != nil {
		switch {
		case r.State == roster.Gone:
			add("its requests are rejected, and its silence raises no alert; to let it join again: "+
				"sudo cis490 host readmit %[1]s && sudo cis490 token create %[1]s", name)
			return o
		case r.State == roster.Pending && r.TokenExpires.After(f.Now):
			add("its join token is valid until %s; without contact by then, never-reported follows after %s; "+
				"if the token is lost: sudo cis490 token create %s",
				plain.Time(r.TokenExpires), machine.HumanDuration(f.Limits.NeverReported), name)
			return o
		case r.State == roster.Pending:
			add("it has no valid join token: sudo cis490 token create %s", name)
			return o
		}
	}
	if h.Contact.Uninstalled {
		add("it was uninstalled at %s: its silence raises no alert; decommission it, or install it again", plain.Time(h.Contact.At))
		return o
	}
	f.nextOfGate(h, add)
	switch {
	case h.Contact.Leaving:
		add("it shut down cleanly at %s: its silence raises no alert before %s",
			plain.Time(h.Contact.At), plain.Time(later(h.Accepted, h.Contact.At).Add(f.Limits.Lookback)))
	case !h.Accepted.IsZero() && f.silentFor(h.Accepted) <= f.Limits.SilentAfter:
		add("without another episode, the alert silent fires after %s",
			plain.Time(h.Accepted.Add(f.Limits.SilentAfter+f.Now.Sub(h.Accepted)-f.silentFor(h.Accepted))))
	}
	f.nextOfVersion(h, add)
	if r := h.Roster; r != nil && r.State == roster.Active && !r.CertExpires.IsZero() {
		end := h.lastCertEnd()
		renew := end.Add(-r.CertLife() / 3)
		switch {
		case end.Before(f.Now):
			add("its certificate has expired; its cert-fetch requests a new one every 5 minutes with its old key")
		case renew.Before(f.Now):
			add("its cert-fetch tries to renew the certificate every 5 minutes, before and after it expires at %s", plain.Time(end))
		default:
			add("its certificate is renewed from %s on", plain.Time(renew))
		}
	}
	add(
		"its next health report comes within a day, and at once if one of its services fails; `sudo cis490 health-check` on the " +
			"host sends one now",
	)
	return o
}

// nextOfGate adds what happens to episodes that the gate refuses.
func (f *Facts) nextOfGate(h *Host, add func(string, ...any)) {
	held := h.Contact.Held
	refused := wire.Kind(h.Refused.Kind) == wire.Gated && h.Refused.At.After(h.Accepted)
	if h.Contact.Gated == "" && held == 0 && !refused {
		return
	}
	if h.Contact.Gated != "" {
		add("it records nothing new: %s", h.Contact.Gated)
		const unpublished = "no published release has another commit for it: publish one, or "
		switch {
		case h.Offered != "" && h.Offered != h.Version:
			add("its autoupdate installs version %s within 5 minutes; then it records and ships again", check.Sanitize(h.Offered, 40))
		case h.Contact.Blocked:
			add(unpublished + "remove its commit from [gate] blocked_commits in receiver.toml")
		default:
			add(unpublished + "add its commit to [gate] extra_commits in receiver.toml")
		}
	}
	key := "extra_commits"
	if h.Contact.Blocked || h.Refused.Blocked {
		key = "blocked_commits"
	}
	switch {
	case held > 0:
		add("it holds %d episodes without a time limit; it sends them when the gate accepts their commit ([gate] %s in receiver.toml, "+
			"effective with its next ping)", held, key)
	default:
		add("it holds its earlier episodes without a time limit, and sends them when the gate accepts their commit")
	}
}

// nextOfVersion adds what happens with the offered version.
func (f *Facts) nextOfVersion(h *Host, add func(string, ...any)) {
	if h.Offered == "" || h.Offered == h.Version || h.Contact.Gated != "" {
		return
	}
	version := check.Sanitize(h.Offered, 40)
	switch u := h.Update; {
	case u != nil && u.Refused != "":
		add("it refuses version %s: %s", version, check.Sanitize(u.Refused, 200))
	case u != nil && u.Trial != nil:
		add("version %s is on trial; the host keeps it or rolls it back by itself", check.Sanitize(u.Trial.Version, 40))
	default:
		add("its autoupdate installs version %s within 5 minutes", version)
	}
}
