package fleet

import (
	"fmt"
	"time"

	"cis490/internal/check"
	"cis490/internal/ident"
	"cis490/internal/machine"
	"cis490/internal/wire"
	"cis490/receiver/roster"
)

// Forecast is what one host's facts mean: when it last told how it is, and what
// will happen next if nobody does anything.
type Forecast struct {
	Snapshot time.Time `json:"snapshot,omitzero"` // when the last one was received
	Failing  []string  `json:"failing,omitempty"` // ids of hard checks, by the newest word of it
	Next     []string  `json:"next"`
}

// Forecast tells what is to be expected of a host.
func (f *Facts) Forecast(name ident.Host) Forecast {
	h := f.Hosts[name]
	if h == nil {
		return Forecast{Next: []string{}}
	}
	o := Forecast{Snapshot: h.Snapshot.At}
	o.Failing, _ = h.failing(f)
	say := func(format string, args ...any) { o.Next = append(o.Next, fmt.Sprintf(format, args...)) }
	if r := h.Roster; r != nil {
		switch {
		case r.State == roster.Gone:
			say("it is turned away, and nobody is told of its silence; readmit it, or leave it so")
			return o
		case r.State == roster.Pending && r.TokenExpires.After(f.Now):
			say("it may join until %s; if it does not, that is told after %s", stamp(r.TokenExpires), machine.HumanDuration(f.Limits.NeverReported))
			return o
		}
	}
	f.nextOfGate(h, say)
	switch {
	case h.Contact.Leaving:
		say("it said at %s that it leaves: nobody is told of its silence before %s", stamp(h.Contact.At), stamp(later(h.Accepted, h.Contact.At).Add(f.Limits.Lookback)))
	case !h.Accepted.IsZero() && f.silentFor(h.Accepted) <= f.Limits.SilentAfter:
		say("if no episode of it is taken, that is told after %s", stamp(h.Accepted.Add(f.Limits.SilentAfter+f.Now.Sub(h.Accepted)-f.silentFor(h.Accepted))))
	}
	f.nextOfVersion(h, say)
	if r := h.Roster; r != nil && r.State == roster.Active && !r.CertExpires.IsZero() {
		renew := r.CertExpires.Add(-r.CertLife() / 3)
		switch {
		case r.CertExpires.Before(f.Now):
			say("its certificate is over; cert-fetch there asks for a new one every 5 minutes, which its old key entitles it to")
		case renew.Before(f.Now):
			say("cert-fetch there renews its certificate, trying every 5 minutes until %s and after", stamp(r.CertExpires))
		default:
			say("its certificate is renewed from %s on", stamp(renew))
		}
	}
	say("its next snapshot comes within a day, and at once when one of its services fails; `sudo cis490 health-check` there sends one now")
	return o
}

// nextOfGate tells what becomes of episodes that the gate refuses.
func (f *Facts) nextOfGate(h *Host, say func(string, ...any)) {
	held := h.Contact.Held
	refused := wire.Kind(h.Refused.Kind) == wire.Gated && h.Refused.At.After(h.Accepted)
	if h.Contact.Gated == "" && held == 0 && !refused {
		return
	}
	if h.Contact.Gated != "" {
		say("it records nothing new: %s", h.Contact.Gated)
		switch {
		case h.Offered != "" && h.Offered != h.Version:
			say("its autoupdate looks every 5 minutes and brings version %s; from then on it records and ships", check.Sanitize(h.Offered, 40))
		case h.Contact.Blocked:
			say("no release is published that would bring it another commit: publish one, or take its commit out of [gate] blocked_commits in receiver.toml")
		default:
			say("no release is published that would bring it another commit: publish one, or add its commit to [gate] extra_commits in receiver.toml")
		}
	}
	key := "extra_commits"
	if h.Contact.Blocked || h.Refused.Blocked {
		key = "blocked_commits"
	}
	switch {
	case held > 0:
		say("%d episodes are held there and never expire; they are sent when the gate accepts their commit: [gate] %s in receiver.toml, which counts within seconds here and with its next ping there", held, key)
	default:
		say("what it recorded before is held there and never expires; it is sent when the gate accepts its commit")
	}
}

func (f *Facts) nextOfVersion(h *Host, say func(string, ...any)) {
	if h.Offered == "" || h.Offered == h.Version || h.Contact.Gated != "" {
		return
	}
	version := check.Sanitize(h.Offered, 40)
	switch u := h.Update; {
	case u != nil && u.Refused != "":
		say("it does not take version %s: %s", version, check.Sanitize(u.Refused, 200))
	case u != nil && u.Trial != nil:
		say("version %s is on trial there, and stays or is rolled back by itself", check.Sanitize(u.Trial.Version, 40))
	default:
		say("its autoupdate looks every 5 minutes and brings version %s", version)
	}
}
