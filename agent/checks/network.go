package checks

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"cis490/internal/check"
	"cis490/internal/disk"
	"cis490/internal/httpclient"
	"cis490/internal/machine"
	"cis490/internal/pki"
	"cis490/internal/wire"
)

// reachFix is the fix for a receiver that does not answer.
const reachFix = here + "sudo cis490 doctor --only dns.receiver --only receiver.reachable   " +
	"# check the network, VPN and firewall; if many hosts fail, on the receiver: sudo cis490 doctor"

func (h *host) remote() []check.Check {
	return []check.Check{
		{
			ID: "dns.receiver", Title: "Receiver's name resolves", Severity: check.Hard,
			Fix: here + "getent hosts " + h.hostOf(h.Config.Receiver.URL) +
				"   # no output: check the network and VPN; a line in /etc/hosts also works",
			Doc: "The name in [receiver] url has an address.",
			Run: h.needsConfig(h.dns),
		},
		{
			ID: "receiver.reachable", Title: "Receiver is reachable", Severity: check.Hard,
			Fix: reachFix,
			Doc: "A TLS connection to the receiver succeeds with the CA in ca.crt, and GET /healthz answers 200. " +
				"It uses no credentials of this host, so it distinguishes a broken path from rejected credentials.",
			Run: h.needsConfig(func(ctx context.Context) check.Result {
				return h.get(ctx, h.Config.Receiver.URL, wire.HealthzPath)
			}),
		},
		{
			ID: "authority.reachable", Title: "Authority is reachable", Severity: check.Soft,
			Fix: "on the receiver: systemctl status --no-pager cis490-bootstrap; sudo cis490 doctor --role receiver",
			Doc: "The server that renews certificates answers. It may be down for days before a certificate expires.",
			Run: h.needsConfig(func(ctx context.Context) check.Result {
				return h.get(ctx, h.Config.Authority.URL, wire.AuthorityHealthPath)
			}),
		},
		{
			ID: "receiver.auth", Title: "Receiver accepts this host", Severity: check.Hard, Fix: enrollFix,
			Doc: "The receiver answers a ping with this host's certificate and bearer. A rejection names the reason.",
			Run: h.onPong(func(p wire.Pong) check.Result { return check.Passf("store %s, policy %.12s", p.StoreID, p.Policy) }, true),
		},
		{
			ID: "clock.offset", Title: "Clock matches the receiver's", Severity: check.Hard,
			Fix: here + machine.ClockFix,
			Doc: "Episodes carry this host's time. It differs from the receiver's by at most [doctor] clock_skew.",
			Run: h.onPong(func(p wire.Pong) check.Result {
				return offset(h.Now().Sub(p.ServerTime), h.Config.Doctor.ClockSkew.D())
			}, false),
		},
		{
			ID: "gate.commit", Title: "Gate accepts the running code", Severity: check.Hard,
			Fix: here + "sudo systemctl start cis490-autoupdate   # installs a released build; or on the receiver: add the commit to " +
				"[gate] extra_commits in /etc/cis490/receiver.toml, or remove it from blocked_commits there",
			Doc: "The receiver rejects episodes recorded by a build that the gate rejects, " +
				"so nothing is recorded until the build or the gate changes.",
			Run: h.onPong(func(p wire.Pong) check.Result {
				switch {
				case !p.Gate.Accepted:
					return check.Failf("commit %s is rejected: %s; the receiver runs %s",
						cmp.Or(string(h.Build.Commit), "(none)"), p.Gate.Reason, cmp.Or(string(p.Gate.HeadCommit), "(none)"))
				case h.Build.Commit == "":
					return check.Skipf("this build has no commit")
				}
				return check.Passf("%s", h.Build.Commit)
			}, false),
		},
		{
			ID: "version.offered", Title: "Running the offered version", Severity: check.Soft,
			Fix: here + "sudo systemctl start cis490-autoupdate; sudo journalctl -u cis490-autoupdate -n 20 --no-pager",
			Doc: "This host runs the version that the receiver offers it, if any. " +
				"A new version is installed within minutes; after a day without it the receiver raises an alert.",
			Run: h.needsConfig(h.offered),
		},
		{
			ID: "fleetcheck.fresh", Title: "Fleet monitoring is running", Severity: check.Soft,
			Fix: "on the receiver: sudo systemctl start cis490-fleet-health.timer; sudo journalctl -u cis490-fleet-health -n 20 --no-pager",
			Doc: "The receiver's fleet-check ran within three of its intervals of 5 minutes. " +
				"While it does not run there are no alerts, and a silent host looks healthy.",
			Run: h.onPong(func(p wire.Pong) check.Result {
				return FleetCheck(p, h.enrolled(), h.Now())
			}, false),
		},
	}
}

// FleetCheck judges by the receiver's answer to a ping whether fleet-check runs there.
// enrolled and now are times of this host's clock.
func FleetCheck(p wire.Pong, enrolled, now time.Time) check.Result {
	joined := p.ServerTime.Add(enrolled.Sub(now)) // by the receiver's clock
	//off:17_FleetCheckStopped
	return machine.Fresh(p.FleetCheck, joined, p.ServerTime)
}

func offset(d, most time.Duration) check.Result {
	if d.Abs() > most {
		way := "ahead of"
		if d < 0 {
			way = "behind"
		}
		return check.Failf("this clock is %s %s the receiver's", machine.HumanDuration(d.Abs()), way)
	}
	return check.Passf("%s", d.Round(time.Millisecond))
}

// onPong is a check of the answer to a ping. Only the check with own set reports a failed
// ping; the others skip.
func (h *host) onPong(judge func(wire.Pong) check.Result, own bool) func(context.Context) check.Result {
	return h.needsConfig(func(context.Context) check.Result {
		if h.Receiver == nil {
			return check.Skipf("no client")
		}
		for _, name := range []string{pairFile, bearerFile, caFile} {
			f, err := disk.OS{}.Open(h.cert(name))
			if err != nil {
				return check.Skipf("%s is not readable, so the receiver cannot be pinged", h.cert(name))
			}
			_ = f.Close() // opened only to test access
		}
		p, err := h.pong()
		if err == nil {
			return judge(p)
		}
		refusal, refused := errors.AsType[*wire.Problem](err)
		switch {
		case !own:
			return check.Skipf("the receiver did not accept the ping: see receiver.auth")
		case !refused && unreached(err):
			return check.Skipf("no answer: %v", err)
		case !refused:
			return check.Warnf("no answer: %v", err).WithFix(reachFix)
		case refusal.Status >= http.StatusInternalServerError:
			return check.Warnf("%v", refusal).WithFix(cmp.Or(check.Sanitize(refusal.Fix, 500), reachFix))
		}
		return check.Failf("%v", refusal).WithFix(check.Sanitize(refusal.Fix, 500))
	})
}

// unreached reports whether even the connection failed, which receiver.reachable reports.
func unreached(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "dial"
}

func (h *host) hostOf(s string) string {
	u, err := url.Parse(s)
	if err != nil || u.Hostname() == "" {
		return "NAME"
	}
	return u.Hostname()
}

func (h *host) dns(ctx context.Context) check.Result {
	name := h.hostOf(h.Config.Receiver.URL)
	if net.ParseIP(name) != nil {
		return check.Passf("%s is an address", name)
	}
	addrs, err := net.DefaultResolver.LookupHost(ctx, name)
	if err != nil && strings.HasSuffix(strings.ToLower(strings.TrimSuffix(name, ".")), ".local") {
		return check.Failf("%v; most .local names resolve by mDNS only, which services do not use: add the address to /etc/hosts", err)
	}
	if err != nil {
		return check.Failf("%v", err)
	}
	return check.Passf("%s is %s", name, strings.Join(addrs, ", "))
}

func (h *host) offered(ctx context.Context) check.Result {
	if h.Offered == nil {
		return check.Skipf("updates are not configured on this host")
	}
	switch version, err := h.Offered(ctx); {
	case err != nil:
		return check.Skipf("no answer: %v", err)
	case version == "":
		return check.Skipf("no release is offered to this host yet: it stays on version %s", cmp.Or(h.Build.Version, "(none)"))
	case version != h.Build.Version:
		return check.Warnf("the receiver offers version %s, this host runs %s", version, cmp.Or(h.Build.Version, "(none)"))
	}
	return check.Passf("version %s", h.Build.Version)
}

// get expects a 200 from a server that the CA in ca.crt issued.
func (h *host) get(ctx context.Context, base, path string) check.Result {
	roots, err := pki.NewBundle(disk.OS{}, h.cert(caFile)).Get()
	if err != nil {
		return check.Skipf("%s is not readable, so the server cannot be verified: %v", h.cert(caFile), err)
	}
	t := &http.Transport{TLSClientConfig: pki.ClientTLS(roots, nil), DisableKeepAlives: true}
	return machine.Get(ctx, httpclient.New(t, httpclient.Bounds{Total: check.Timeout, Answer: wire.MaxAnswer}), base, path)
}
