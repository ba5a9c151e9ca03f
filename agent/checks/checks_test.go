package checks_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"cis490/agent/checks"
	"cis490/internal/check"
	"cis490/internal/config"
	"cis490/internal/ident"
	"cis490/internal/machine"
	"cis490/internal/pki"
	"cis490/internal/version"
	"cis490/internal/wire"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

const commit = ident.Commit("0123456789abcdef0123456789abcdef01234567")

type pinger func(wire.Ping) (wire.Pong, error)

func (p pinger) Ping(_ context.Context, q wire.Ping) (wire.Pong, error) { return p(q) }

type units map[string]machine.Unit

func (u units) Units(_ context.Context, names ...string) ([]machine.Unit, error) {
	var all []machine.Unit
	for _, n := range names {
		x := u[n]
		x.Name = n
		all = append(all, x)
	}
	return all, nil
}

// healthy is a lab host that passes every check.
func healthy(t *testing.T) checks.Options {
	t.Helper()
	dir := t.TempDir()
	c := config.DefaultLabHost()
	c.Host, c.DataDir, c.CertsDir = "lab-01", filepath.Join(dir, "data"), filepath.Join(dir, "certs")
	c.Receiver.URL, c.Authority.URL, c.Orchestrate.DiskReserve = "https://127.0.0.1:1", "https://127.0.0.1:1", 1
	for _, d := range []string{c.DataDir, c.CertsDir} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	o := checks.Options{
		Config: c, Build: version.Info{Version: "1.0", Commit: commit}, Now: func() time.Time { return now },
		Receiver: pinger(func(wire.Ping) (wire.Pong, error) {
			return wire.Pong{ServerTime: now, StoreID: "s", Policy: "p", Gate: wire.Verdict{Accepted: true}, FleetCheck: now.Add(-time.Minute)}, nil
		}),
		Queue:      func() (wire.Queue, error) { return wire.Queue{LastShipped: now.Add(-time.Minute)}, nil },
		Quarantine: func() (map[string]int, error) { return nil, nil },
		Stuck:      func() ([]ident.EpisodeID, error) { return nil, nil },
		Experiment: func() (string, error) { return "x", nil },
		Updates:    func() (*wire.Update, error) { return &wire.Update{Good: wire.Running{Version: "1.0", Seq: 1}}, nil },
		Offered:    func(context.Context) (string, error) { return "1.0", nil },
		Awake:      func() time.Duration { return time.Hour },
		Systemd: units{
			"a.service": {Load: "loaded", File: "enabled", Active: "active", Sub: "running"},
			"b.timer":   {Load: "loaded", File: "enabled", Active: "active", Sub: "waiting"},
			"b.service": {Load: "loaded", File: "static", Active: "inactive", Result: "success"},
		},
		Units: machine.UnitSet{Daemons: []string{"a.service"}, Timers: []string{"b.timer"}},
	}
	ca, err := pki.NewCA(now)
	if err != nil {
		t.Fatal(err)
	}
	enroll(t, o, ca, "lab-01", now)
	return o
}

// enroll writes credentials issued at a time.
func enroll(t *testing.T, o checks.Options, ca pki.Issuer, host ident.Host, at time.Time) {
	t.Helper()
	key, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.Client(key.Public(), host, at, 30*24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	b, err := pki.EncodeKey(key)
	if err != nil {
		t.Fatal(err)
	}
	put(t, o, "lab-host.pem", string(pki.EncodeCerts(cert))+string(b))
	put(t, o, "bearer", "b")
	if _, err := os.Stat(filepath.Join(o.Config.CertsDir, "ca.crt")); err != nil {
		put(t, o, "ca.crt", string(pki.EncodeCerts(ca.Cert)))
	}
}

func put(t *testing.T, o checks.Options, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(o.Config.CertsDir, name), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// joined sets the time of enrollment.
func joined(t *testing.T, o checks.Options, at time.Time) {
	t.Helper()
	if err := os.Chtimes(filepath.Join(o.Config.CertsDir, "lab-host.pem"), at, at); err != nil {
		t.Fatal(err)
	}
}

// about drops the checks that depend on the machine that runs the test.
func about(checks []check.Check) []check.Check {
	elsewhere := []string{
		"receiver.reachable", "authority.reachable", "version.installed", "kvm.device", "clock.synced", "users.exist",
		"disk.inodes",
	}
	return slices.DeleteFunc(checks, func(c check.Check) bool { return slices.Contains(elsewhere, c.ID) })
}

// TestChecks_EachFindsItsFault breaks one thing at a time: only the checks for it may fail.
func TestChecks_EachFindsItsFault(t *testing.T) {
	unreached := func(o *checks.Options, at time.Time) {
		o.Unreached = func() (time.Time, error) { return at, nil }
	}
	queue := func(o *checks.Options, q wire.Queue) {
		if q.LastShipped.IsZero() {
			q.LastShipped = now
		}
		o.Queue = func() (wire.Queue, error) { return q, nil }
	}
	pong := func(o *checks.Options, change func(*wire.Pong)) {
		o.Receiver = pinger(func(wire.Ping) (wire.Pong, error) {
			p := wire.Pong{ServerTime: now, StoreID: "s", Gate: wire.Verdict{Accepted: true}, FleetCheck: now}
			change(&p)
			return p, nil
		})
	}
	refuse := func(o *checks.Options, err error) {
		o.Receiver = pinger(func(wire.Ping) (wire.Pong, error) { return wire.Pong{}, err })
	}
	unit := func(o *checks.Options, name string, change func(*machine.Unit)) {
		all := o.Systemd.(units)
		u := all[name]
		change(&u)
		all[name] = u
	}
	remove := func(t *testing.T, o checks.Options, name string) {
		if err := os.Remove(filepath.Join(o.Config.CertsDir, name)); err != nil {
			t.Fatal(err)
		}
	}
	const asks = " clock.offset:skip fleetcheck.fresh:skip gate.commit:skip"
	for name, c := range map[string]struct {
		spoil func(t *testing.T, o *checks.Options)
		want  string
	}{
		"nothing": {func(*testing.T, *checks.Options) {}, ""},
		"not enrolled": {
			func(t *testing.T, o *checks.Options) { remove(t, *o, "lab-host.pem") },
			"cert.expiry:skip cert.host:skip cert.present:fail cert.trusted:skip" + asks + " receiver.auth:skip",
		},
		"no bearer": {
			func(t *testing.T, o *checks.Options) { remove(t, *o, "bearer") },
			"bearer.present:fail" + asks + " receiver.auth:skip",
		},
		"no CA certificate": {
			func(t *testing.T, o *checks.Options) { remove(t, *o, "ca.crt") },
			"cert.trusted:fail" + asks + " receiver.auth:skip",
		},
		"another's name": {func(_ *testing.T, o *checks.Options) { o.Config.Host = "lab-02" }, "cert.host:fail"},
		"expired": {func(_ *testing.T, o *checks.Options) {
			at := now.Add(31 * 24 * time.Hour)
			o.Now = func() time.Time { return at }
			queue(o, wire.Queue{LastShipped: at})
			pong(o, func(p *wire.Pong) { p.ServerTime, p.FleetCheck = at, at })
		}, "cert.expiry:fail"},
		"not renewed": {func(_ *testing.T, o *checks.Options) {
			at := now.Add(26 * 24 * time.Hour)
			o.Now = func() time.Time { return at }
			queue(o, wire.Queue{LastShipped: at})
			pong(o, func(p *wire.Pong) { p.ServerTime, p.FleetCheck = at, at })
		}, "cert.expiry:warn"},
		"other fleet": {func(t *testing.T, o *checks.Options) {
			ca, err := pki.NewCA(now)
			if err != nil {
				t.Fatal(err)
			}
			enroll(t, *o, ca, "lab-01", now)
		}, "cert.trusted:fail"},
		"key of another": {
			func(t *testing.T, o *checks.Options) { put(t, *o, "lab-host.pem", "junk") },
			"cert.expiry:fail cert.host:fail cert.present:fail cert.trusted:fail",
		},
		"no commit": {func(_ *testing.T, o *checks.Options) { o.Build.Commit = "" }, "gate.commit:skip version.stamp:fail"},
		"dirty":     {func(_ *testing.T, o *checks.Options) { o.Build.Dirty = true }, "version.stamp:warn"},
		"gated": {func(_ *testing.T, o *checks.Options) {
			pong(o, func(p *wire.Pong) { p.Gate = wire.Verdict{Reason: "no"} })
		}, "gate.commit:fail"},
		"clock 121 s ahead": {func(_ *testing.T, o *checks.Options) {
			pong(o, func(p *wire.Pong) { p.ServerTime, p.FleetCheck = now.Add(-121*time.Second), now.Add(-5*time.Minute) })
		}, "clock.offset:fail"},
		"clock 119 s behind": {func(_ *testing.T, o *checks.Options) {
			pong(o, func(p *wire.Pong) { p.ServerTime = now.Add(119 * time.Second) })
		}, ""},
		"watcher dead": {func(_ *testing.T, o *checks.Options) {
			pong(o, func(p *wire.Pong) { p.FleetCheck = now.Add(-16 * time.Minute) })
		}, "fleetcheck.fresh:warn"},
		"another version is offered": {func(_ *testing.T, o *checks.Options) {
			o.Offered = func(context.Context) (string, error) { return "2.0", nil }
		}, "version.offered:warn"},
		"no version is offered": {func(_ *testing.T, o *checks.Options) {
			o.Offered = func(context.Context) (string, error) { return "", nil }
		}, "version.offered:skip"},
		"watched soon": {func(t *testing.T, o *checks.Options) {
			pong(o, func(p *wire.Pong) { p.FleetCheck = time.Time{} })
			joined(t, *o, now.Add(-15*time.Minute))
		}, "fleetcheck.fresh:skip"},
		"never watched": {func(t *testing.T, o *checks.Options) {
			pong(o, func(p *wire.Pong) { p.FleetCheck = time.Time{} })
			joined(t, *o, now.Add(-16*time.Minute))
		}, "fleetcheck.fresh:warn"},
		"bad bearer": {
			func(_ *testing.T, o *checks.Options) { refuse(o, wire.NewProblem(wire.BadBearer, "")) },
			"clock.offset:skip fleetcheck.fresh:skip gate.commit:skip receiver.auth:fail",
		},
		"receiver broken": {
			func(_ *testing.T, o *checks.Options) { refuse(o, wire.NewProblem(wire.NotReady, "")) },
			"clock.offset:skip fleetcheck.fresh:skip gate.commit:skip receiver.auth:warn",
		},
		"captive portal": {
			func(_ *testing.T, o *checks.Options) { refuse(o, wire.ErrNotOurs) },
			"clock.offset:skip fleetcheck.fresh:skip gate.commit:skip receiver.auth:warn",
		},
		"waits 30:01": {func(_ *testing.T, o *checks.Options) {
			queue(o, wire.Queue{Waiting: 1, Oldest: now.Add(-30*time.Minute - time.Second)})
		}, "outbox.oldest:fail"},
		"waits 29:59": {func(_ *testing.T, o *checks.Options) {
			queue(o, wire.Queue{Waiting: 1, Oldest: now.Add(-30*time.Minute + time.Second)})
		}, ""},
		"the receiver is back": {func(_ *testing.T, o *checks.Options) {
			queue(o, wire.Queue{Waiting: 9, Oldest: now.Add(-9 * time.Hour)})
			unreached(o, now.Add(-29*time.Minute))
		}, ""},
		"the receiver was back for long": {func(_ *testing.T, o *checks.Options) {
			queue(o, wire.Queue{Waiting: 9, Oldest: now.Add(-9 * time.Hour)})
			unreached(o, now.Add(-31*time.Minute))
		}, "outbox.oldest:fail"},
		"the receiver was out of reach in the future": {func(_ *testing.T, o *checks.Options) {
			queue(o, wire.Queue{Waiting: 9, Oldest: now.Add(-9 * time.Hour)})
			unreached(o, now.Add(time.Hour))
		}, "outbox.oldest:fail"},
		"waits since before it was switched on": {func(_ *testing.T, o *checks.Options) {
			queue(o, wire.Queue{Waiting: 9, Oldest: now.Add(-9 * time.Hour), LastShipped: now})
			o.Awake = func() time.Duration { return 29 * time.Minute }
		}, ""},
		"held":               {func(_ *testing.T, o *checks.Options) { queue(o, wire.Queue{Held: 4}) }, "outbox.held:warn"},
		"outbox nearly full": {func(_ *testing.T, o *checks.Options) { queue(o, wire.Queue{Waiting: 4, Bytes: 17 << 30}) }, "outbox.count:warn"},
		"quarantined": {func(_ *testing.T, o *checks.Options) {
			o.Quarantine = func() (map[string]int, error) { return map[string]int{"malformed": 2}, nil }
		}, "quarantine.count:warn"},
		"stuck": {func(_ *testing.T, o *checks.Options) {
			o.Stuck = func() ([]ident.EpisodeID, error) { return []ident.EpisodeID{"01J00000000000000000000001"}, nil }
		}, "episodes.stuck:warn"},
		"accepted in the future": {
			func(_ *testing.T, o *checks.Options) { queue(o, wire.Queue{LastShipped: now.Add(8 * time.Hour)}) },
			"episodes.recent:warn",
		},
		"nothing accepted": {
			func(_ *testing.T, o *checks.Options) { queue(o, wire.Queue{LastShipped: now.Add(-31 * time.Minute)}) },
			"episodes.recent:warn",
		},
		"just woken": {func(_ *testing.T, o *checks.Options) {
			queue(o, wire.Queue{LastShipped: now.Add(-9 * time.Hour)})
			o.Awake = func() time.Duration { return time.Minute }
		}, "episodes.recent:skip"},
		"disk full": {func(_ *testing.T, o *checks.Options) { o.Config.Orchestrate.DiskReserve = 1 << 60 }, "disk.reserve:fail"},
		"open key": {func(t *testing.T, o *checks.Options) {
			if err := os.Chmod(filepath.Join(o.Config.CertsDir, "lab-host.pem"), 0o640); err != nil {
				t.Fatal(err)
			}
		}, "files.secret:fail"},
		"open folder": {func(t *testing.T, o *checks.Options) {
			if err := os.Chmod(o.Config.DataDir, 0o777); err != nil {
				t.Fatal(err)
			}
		}, "files.owner:fail"},
		"bad experiment": {func(_ *testing.T, o *checks.Options) {
			o.Experiment = func() (string, error) { return "", errors.New("x.toml:1:1: no") }
		}, "experiment.valid:fail"},
		"release refused": {func(_ *testing.T, o *checks.Options) {
			o.Updates = func() (*wire.Update, error) { return &wire.Update{Refused: "no trusted key signed this"}, nil }
		}, "update.state:warn"},
		"release rolled back": {func(_ *testing.T, o *checks.Options) {
			o.Updates = func() (*wire.Update, error) {
				return &wire.Update{Good: wire.Running{Seq: 1}, RolledBack: []wire.RolledBack{
					{Running: wire.Running{Version: "2", Seq: 2}, Why: "it crashed"},
				}}, nil
			}
		}, "update.state:warn"},
		"a better release since": {func(_ *testing.T, o *checks.Options) {
			o.Updates = func() (*wire.Update, error) {
				return &wire.Update{Good: wire.Running{Seq: 3}, RolledBack: []wire.RolledBack{{Running: wire.Running{Seq: 2}}}}, nil
			}
		}, ""},
		"release on trial": {func(_ *testing.T, o *checks.Options) {
			o.Updates = func() (*wire.Update, error) { return &wire.Update{Trial: &wire.Trial{Needs: 600}}, nil }
		}, ""},
		"no updates": {func(_ *testing.T, o *checks.Options) { o.Updates = nil }, "update.state:skip"},
		"unit missing": {func(_ *testing.T, o *checks.Options) {
			unit(o, "a.service", func(u *machine.Unit) { *u = machine.Unit{Load: "not-found", Active: "inactive"} })
		}, "units.active:fail units.enabled:fail"},
		"unit disabled": {func(_ *testing.T, o *checks.Options) {
			unit(o, "a.service", func(u *machine.Unit) { u.File = "disabled" })
		}, "units.enabled:fail"},
		"unit masked": {func(_ *testing.T, o *checks.Options) {
			unit(o, "a.service", func(u *machine.Unit) { u.Load, u.File, u.Active = "masked", "masked", "inactive" })
		}, "units.enabled:warn"},
		"unit failed": {func(_ *testing.T, o *checks.Options) {
			unit(o, "a.service", func(u *machine.Unit) { u.Active, u.Result, u.Code = "failed", "exit-code", 78 })
		}, "units.active:fail"},
		"unit restarts": {func(_ *testing.T, o *checks.Options) {
			unit(o, "a.service", func(u *machine.Unit) { u.Restarts, u.Since = 3, now.Add(-time.Hour) })
		}, "units.restarts:warn"},
		"restarted long ago": {func(_ *testing.T, o *checks.Options) {
			unit(o, "a.service", func(u *machine.Unit) { u.Restarts, u.Since = 9, now.Add(-25*time.Hour) })
		}, ""},
		"timer stopped": {func(_ *testing.T, o *checks.Options) {
			unit(o, "b.timer", func(u *machine.Unit) { u.Active = "inactive" })
		}, "timers.scheduled:fail"},
		"timer elapsed": {
			func(_ *testing.T, o *checks.Options) { unit(o, "b.timer", func(u *machine.Unit) { u.Sub = "elapsed" }) },
			"timers.scheduled:fail",
		},
		"timer's run failed": {func(_ *testing.T, o *checks.Options) {
			unit(o, "b.service", func(u *machine.Unit) { u.Result, u.Code = "exit-code", 1 })
		}, "timers.result:warn"},
		"no systemd": {
			func(_ *testing.T, o *checks.Options) { o.Systemd = none{} },
			"timers.result:skip timers.scheduled:skip units.active:skip units.enabled:skip units.restarts:skip",
		},
		"systemd is broken": {
			func(_ *testing.T, o *checks.Options) { o.Systemd = broken{} },
			"timers.result:warn timers.scheduled:fail units.active:fail units.enabled:fail units.restarts:warn",
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := healthy(t)
			c.spoil(t, &o)
			var got []string
			for _, r := range check.Run(t.Context(), about(checks.Checks(o))) {
				if r.Status != check.Pass {
					got = append(got, fmt.Sprintf("%s:%s", r.ID, r.Status))
				}
				if (r.Fix != "") != (r.Status == check.Warn || r.Status == check.Fail) || r.Detail == "" {
					t.Errorf("%+v", r)
				}
			}
			slices.Sort(got)
			want := strings.Fields(c.want)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("got  %v\nwant %v", got, want)
			}
		})
	}
}

// TestChecks_ARejectionBringsItsOwnFix: a new token alone does not help a decommissioned host.
func TestChecks_ARejectionBringsItsOwnFix(t *testing.T) {
	for _, kind := range []wire.Kind{wire.BadBearer, wire.Decommission} {
		o := healthy(t)
		o.Receiver = pinger(func(wire.Ping) (wire.Pong, error) { return wire.Pong{}, wire.NewProblem(kind, "") })
		for _, r := range check.Run(t.Context(), checks.Checks(o)) {
			if want := wire.AnswerOf(kind).Fix; r.ID == "receiver.auth" && r.Fix != want {
				t.Errorf("%s: fix %q, want %q", kind, r.Fix, want)
			}
		}
	}
}

// TestChecks_NoAnswer: a new token does not help against a receiver that does not answer.
func TestChecks_NoAnswer(t *testing.T) {
	for _, err := range []error{context.DeadlineExceeded, wire.ErrNotOurs, wire.NewProblem(wire.NotReady, "")} {
		o := healthy(t)
		o.Receiver = pinger(func(wire.Ping) (wire.Pong, error) { return wire.Pong{}, err })
		for _, r := range check.Run(t.Context(), checks.Checks(o)) {
			if r.ID == "receiver.auth" && (r.Status != check.Warn || strings.Contains(r.Fix, "token create")) {
				t.Errorf("%v: %s with fix %q", err, r.Status, r.Fix)
			}
		}
	}
}

type none struct{}

func (none) Units(context.Context, ...string) ([]machine.Unit, error) {
	return nil, machine.ErrNoSystemd
}

type broken struct{}

func (broken) Units(context.Context, ...string) ([]machine.Unit, error) {
	return nil, errors.New("the bus is on strike")
}

// TestChecks_WithABrokenConfigJudgeTheRest: checks that need the config skip, and the
// receiver is not called.
func TestChecks_WithABrokenConfigJudgeTheRest(t *testing.T) {
	o := healthy(t)
	o.Config, o.Err = config.LabHost{}, errors.New("x.toml:1:1: no")
	o.Receiver = pinger(func(wire.Ping) (wire.Pong, error) { t.Error("asked"); return wire.Pong{}, nil })
	seen := map[check.Status]int{}
	for _, r := range check.Run(t.Context(), checks.Checks(o)) {
		seen[r.Status]++
		if r.Status == check.Fail && r.ID != "config.valid" && r.ID != "users.exist" {
			t.Errorf("%+v", r)
		}
	}
	if seen[check.Fail] == 0 || seen[check.Pass] == 0 || seen[check.Skip] < 15 {
		t.Errorf("%v", seen)
	}
}

// TestPing_TellsWhatFails: doctor's own ping carries the failing hard checks that need no
// network, and is sent once for all checks.
func TestPing_TellsWhatFails(t *testing.T) {
	o := healthy(t)
	o.Build.Commit = ""
	var got []wire.Ping
	o.Receiver = pinger(func(p wire.Ping) (wire.Pong, error) {
		got = append(got, p)
		return wire.Pong{ServerTime: now, FleetCheck: now}, nil
	})
	check.Run(t.Context(), checks.Checks(o))
	if len(got) != 1 || !slices.Equal(got[0].Failing, []string{"version.stamp"}) || got[0].BootID != "" || !got[0].Clock.Equal(now) {
		t.Errorf("%+v", got)
	}
}

// TestOffered_Nothing: a release may be published and not be offered to this host yet.
func TestOffered_Nothing(t *testing.T) {
	o := healthy(t)
	o.Offered = func(context.Context) (string, error) { return "", nil }
	for _, r := range check.Run(t.Context(), checks.Checks(o)) {
		if r.ID == "version.offered" && !strings.HasPrefix(r.Detail, "no release is offered to this host yet: it stays on version") {
			t.Error(r.Detail)
		}
	}
}
