package health

import (
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

func (h *host) remote() []check.Check {
	return []check.Check{
		{
			ID: "dns.receiver", Title: "Receiver's name resolves", Severity: check.Hard,
			Fix: here + "getent hosts " + h.hostOf(h.Config.Receiver.URL) + "   # silent: check the network and VPN; a line in /etc/hosts also does",
			Doc: "The name in [receiver] url has an address.",
			Run: h.needsConfig(h.dns),
		},
		{
			ID: "receiver.reachable", Title: "Receiver can be reached", Severity: check.Hard,
			Fix: here + "sudo cis490 doctor --only dns.receiver --only receiver.reachable   # check the network, VPN and firewall; where many hosts say so, on the receiver: sudo cis490 doctor",
			Doc: "A TLS connection to the receiver succeeds with the CA in ca.crt and GET /healthz answers 200. It needs no credentials of this host, so it tells a broken path from refused credentials.",
			Run: h.needsConfig(func(ctx context.Context) check.Result {
				return h.get(ctx, h.Config.Receiver.URL, wire.HealthzPath)
			}),
		},
		{
			ID: "authority.reachable", Title: "Authority can be reached", Severity: check.Soft,
			Fix: "on the receiver: systemctl status --no-pager cis490-bootstrap; sudo cis490 doctor --role receiver",
			Doc: "The server that renews certificates answers. It may be away for days before a certificate runs out.",
			Run: h.needsConfig(func(ctx context.Context) check.Result {
				return h.get(ctx, h.Config.Authority.URL, wire.AuthorityHealthPath)
			}),
		},
		{
			ID: "receiver.auth", Title: "Receiver accepts this host", Severity: check.Hard, Fix: enrollFix,
			Doc: "A ping with this host's certificate and bearer is answered; a refusal says why.",
			Run: h.asked(func(p wire.Pong) check.Result { return check.Passf("store %s, policy %.12s", p.StoreID, p.Policy) }, true),
		},
		{
			ID: "clock.offset", Title: "Clock agrees with the receiver's", Severity: check.Hard,
			Fix: here + "sudo timedatectl set-ntp true   # or set the clock by hand: sudo date -s '…'",
			Doc: "Episodes carry this host's time. The difference from the receiver's clock is at most [doctor] clock_skew.",
			Run: h.asked(func(p wire.Pong) check.Result {
				return offset(h.Now().Sub(p.ServerTime), h.Config.Doctor.ClockSkew.D())
			}, false),
		},
		{
			ID: "gate.commit", Title: "Gate accepts the running code", Severity: check.Hard,
			Fix: here + "sudo systemctl start cis490-autoupdate   # brings a released build; or on the receiver: add the commit to [gate] extra_commits in /etc/cis490/receiver.toml, or take it out of blocked_commits there",
			Doc: "Episodes recorded by a build that the gate refuses are never taken, so nothing is recorded until the build or the gate changes.",
			Run: h.asked(func(p wire.Pong) check.Result {
				switch {
				case !p.Gate.Accepted:
					return check.Failf("commit %s is refused: %s; the receiver's own is %s", orNone(string(h.Build.Commit)), p.Gate.Reason, orNone(string(p.Gate.HeadCommit)))
				case h.Build.Commit == "":
					return check.Skipf("this build has no commit")
				}
				return check.Passf("%s", h.Build.Commit)
			}, false),
		},
		{
			ID: "version.offered", Title: "Running is what is offered", Severity: check.Soft,
			Fix: here + "sudo systemctl start cis490-autoupdate; sudo journalctl -u cis490-autoupdate -n 20 --no-pager",
			Doc: "The receiver offers this host the version that it runs, or none. Another one is taken within minutes; a day later the receiver tells of it.",
			Run: h.needsConfig(h.offered),
		},
		{
			ID: "fleetcheck.fresh", Title: "Someone watches the fleet", Severity: check.Soft,
			Fix: "on the receiver: sudo systemctl start cis490-fleet-health.timer; sudo journalctl -u cis490-fleet-health -n 20 --no-pager",
			Doc: "The receiver's fleet-check ran within three of its intervals of 5 minutes. When it does not run, no alert comes, and silence looks like health.",
			Run: h.asked(func(p wire.Pong) check.Result {
				joined := p.ServerTime.Add(h.enrolled().Sub(h.Now())) // by the receiver's clock
				return machine.Fresh(p.FleetCheck, joined, p.ServerTime)
			}, false),
		},
	}
}

func offset(d, most time.Duration) check.Result {
	if d.Abs() > most {
		way := "ahead of"
		if d < 0 {
			way = "behind"
		}
		return check.Failf("this clock is %s %s the receiver's", machine.Span(d.Abs()), way)
	}
	return check.Passf("%s", d.Round(time.Millisecond))
}

// asked is a check on the receiver's answer to the ping. Only one of them, with
// own set, tells of a ping that failed; to the others it is a reason to skip.
func (h *host) asked(judge func(wire.Pong) check.Result, own bool) func(context.Context) check.Result {
	return h.needsConfig(func(context.Context) check.Result {
		if h.Receiver == nil {
			return check.Skipf("no client")
		}
		for _, name := range []string{pairFile, bearerFile, caFile} {
			f, err := disk.OS{}.Open(h.cert(name))
			if err != nil {
				return check.Skipf("%s cannot be read here, so nothing can be asked", h.cert(name))
			}
			_ = f.Close() // only opened to see whether it can be
		}
		p, err := h.pong()
		if err == nil {
			return judge(p)
		}
		refusal, refused := errors.AsType[*wire.Problem](err)
		switch {
		case !own:
			return check.Skipf("the receiver did not answer the ping")
		case !refused && unreached(err):
			return check.Skipf("no answer: %v", err)
		case !refused:
			return check.Warnf("no answer: %v", err)
		case refusal.Status >= http.StatusInternalServerError:
			return check.Warnf("%v", refusal)
		}
		return check.Failf("%v", told(refusal))
	})
}

// unreached tells that not even a connection came about, which is another
// check's finding.
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
		return check.Failf("%v; names in .local are mostly known by mDNS alone, which services do not ask: add the address to /etc/hosts", err)
	}
	if err != nil {
		return check.Failf("%v", err)
	}
	return check.Passf("%s is %s", name, strings.Join(addrs, ", "))
}

func (h *host) offered(ctx context.Context) check.Result {
	if h.Offered == nil {
		return check.Skipf("nothing keeps this host on releases")
	}
	switch version, err := h.Offered(ctx); {
	case err != nil:
		return check.Skipf("no answer: %v", err)
	case version == "":
		return check.Skipf("no release is offered")
	case version != h.Build.Version:
		return check.Warnf("version %s is offered, %s runs", version, orNone(h.Build.Version))
	}
	return check.Passf("version %s", h.Build.Version)
}

// get wants a 200 of a server that the CA in ca.crt vouches for.
func (h *host) get(ctx context.Context, base, path string) check.Result {
	roots, err := pki.NewBundle(disk.OS{}, h.cert(caFile)).Get()
	if err != nil {
		return check.Skipf("%s cannot be read here, so the server could not be known: %v", h.cert(caFile), err)
	}
	t := &http.Transport{TLSClientConfig: pki.ClientTLS(roots, nil), DisableKeepAlives: true}
	return machine.Get(ctx, httpclient.New(t, httpclient.Bounds{Total: check.Timeout, Answer: wire.MaxAnswer}), base, path)
}

func orNone(s string) string {
	if s == "" {
		return "(none)"
	}
	return s
}
