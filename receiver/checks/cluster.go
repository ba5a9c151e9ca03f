package checks

import (
	"context"
	"crypto/x509"
	"fmt"
	"strings"

	"cis490/internal/check"
	"cis490/internal/config"
	"cis490/internal/machine"
	"cis490/internal/plain"
	"cis490/receiver"
	"cis490/receiver/cluster"
)

// cluster returns the checks of several receivers. They pass for one.
func (r *registry) cluster() []check.Check {
	run := func(judge func([]cluster.Member) check.Result) func(context.Context) check.Result {
		return r.needsConfig(func(context.Context) check.Result {
			if r.Backend.Peers == nil {
				return check.Passf("not used: there is one receiver")
			}
			all, err := cluster.Read(r.Backend.Peers)
			if err != nil {
				return check.Skipf("the database does not answer now, as ledger.postgres reports")
			}
			return judge(all)
		})
	}
	return []check.Check{
		{
			ID: "cluster.ready", Title: "All receivers are ready", Severity: check.Hard,
			Fix: here + "sudo cis490 status   # then sudo cis490 doctor on the receiver that is not ready; or, if it is gone for good: " +
				"sudo cis490 ledger forget NAME",
			Doc: "Every receiver on the database gave a sign of life within a minute, and accepts episodes. One that is gone for good is " +
				"listed for a week, or until cis490 ledger forget.",
			Run: run(r.allReady),
		},
		{
			ID: "cluster.agree", Title: "All receivers have the same settings", Severity: check.Hard,
			Fix: here + "sudo cis490 config check   # make the settings that it names the same in receiver.toml on all receivers, then " +
				"sudo systemctl restart cis490-receiver. Tokens: copy /etc/cis490/operator and /etc/cis490/access-tokens.json",
			Doc: "[limits], [gate] and the access tokens are the same on all receivers. Otherwise an upload that one of them rejects " +
				"for its size or quota is accepted by another one, and a login is valid on some of them only.",
			Run: run(allAgree),
		},
		{
			ID: "cluster.certificates", Title: "All receivers renew their certificates", Severity: check.Hard,
			Fix: here + renewFix + "   # on the one that it names; if that has the authority: sudo systemctl restart cis490-bootstrap",
			Doc: "No server certificate of a receiver is in the last sixth of its life. A receiver without the authority renews its " +
				"certificate at the authority at two thirds of its life, unless cis490 receiver revoke or ledger forget revoked the receiver.",
			Run: run(r.allRenew),
		},
		{
			ID: "cluster.authority", Title: "A machine has the authority, and another one stands by", Severity: check.Hard,
			Fix: here + "sudo cis490 status   # names the machines; on the one that should stand by: sudo journalctl -u cis490-bootstrap -n 20 " +
				"--no-pager; sudo cis490 doctor --only cluster.authority",
			Doc: "If the authority's rows are in the database, one machine has the authority, and another one takes over within ten seconds " +
				"when it dies. This machine could take over, if it has [authority] url_file. Each obstacle is named with its fix: for " +
				"example, the CA key is missing, or is from before a rotation of the CA. Only root sees these. Without a standby, the check warns.",
			Run: r.needsConfig(r.authorities),
		},
	}
}

// authorities checks who has the authority.
func (r *registry) authorities(ctx context.Context) check.Result {
	if !r.Config.Authority.Shared() {
		return check.Passf("not used: no other machine could have the authority")
	}
	leases, err := r.Backend.Peers.Leases()
	if err != nil {
		return check.Skipf("the database does not answer now, as ledger.postgres reports")
	}
	if r.Standby != nil {
		if problem, fix, err := r.Standby(ctx); err == nil && problem != "" { // whether it runs is another check's
			return check.Failf("this machine cannot take over: %s", check.Sanitize(problem, 300)).WithFix(here + check.Sanitize(fix, 400))
		}
	}
	active, standby := check.Sanitize(leases[receiver.Publishing], 100), check.Sanitize(leases[receiver.Standby], 100)
	switch {
	case active == "":
		return check.Failf("no machine has the authority")
	case standby == "":
		return check.Warnf("%s has the authority; no machine stands by", active)
	}
	return check.Passf("%s has the authority, %s stands by", active, standby)
}

// renewFix renews the server certificate of a receiver whose authority is elsewhere.
const renewFix = "sudo cis490 cert-fetch --renew --config " + config.ReceiverPath

func (r *registry) allRenew(all []cluster.Member) check.Result {
	var bad []string
	worst := check.Passf("%d receivers", len(all))
	for _, m := range all {
		if m.CertificateUntil.IsZero() || !m.Fresh() {
			continue
		}
		result := machine.Expiry(&x509.Certificate{NotBefore: m.CertificateFrom, NotAfter: m.CertificateUntil}, r.Now())
		if result.Status == check.Pass {
			continue
		}
		bad = append(bad, fmt.Sprintf("%s: %s", check.Sanitize(m.Name, 100), result.Detail))
		if worst.Status != check.Fail {
			worst.Status = result.Status
		}
	}
	if len(bad) > 0 {
		worst.Detail = strings.Join(bad, "; ")
	}
	return worst
}

func (r *registry) allReady(all []cluster.Member) check.Result {
	var bad []string
	for _, m := range all {
		if m.Fresh() && (m.Ready || len(m.Missing) == 0) { // one that stops says goodbye
			continue
		}
		state := check.Sanitize(m.State(), 200)
		if !m.Fresh() {
			state = "no sign of life since " + plain.Time(r.Now().Add(-m.Silent))
		}
		bad = append(bad, fmt.Sprintf("%s: %s", check.Sanitize(m.Name, 100), state))
	}
	if len(bad) > 0 {
		return check.Failf("%s", strings.Join(bad, "; "))
	}
	return check.Passf("%d ready", len(all))
}

func allAgree(all []cluster.Member) check.Result {
	var bad []string
	for _, d := range cluster.Differences(all) {
		bad = append(bad, fmt.Sprintf("%s of %s and %s", d.Setting, check.Sanitize(d.A, 100), check.Sanitize(d.B, 100)))
	}
	if len(bad) > 0 {
		return check.Failf("different: %s", strings.Join(bad, "; "))
	}
	return check.Passf("%d receivers", len(all))
}
