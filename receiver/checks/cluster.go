package checks

import (
	"context"
	"fmt"
	"strings"

	"cis490/internal/check"
	"cis490/internal/machine"
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
			Fix: here + "sudo cis490 status   # then sudo cis490 doctor on the one that is not ready; or, if it is gone for good: " +
				"sudo cis490 ledger forget NAME",
			Doc: "Every receiver on the database gave a sign of life within a minute, and accepts episodes. One that is gone for good is " +
				"named for a week, or until cis490 ledger forget.",
			Run: run(allReady),
		},
		{
			ID: "cluster.agree", Title: "All receivers have the same settings", Severity: check.Hard,
			Fix: here + "sudo cis490 config check   # make the settings that it names the same in receiver.toml on all receivers, then " +
				"sudo systemctl restart cis490-receiver. Tokens: copy /etc/cis490/operator and /etc/cis490/access-tokens.json",
			Doc: "[limits], [gate] and the access tokens are the same on all receivers. Otherwise an upload that one of them rejects " +
				"for its size or quota is accepted by another one, and a login is valid on some of them only.",
			Run: run(allAgree),
		},
	}
}

func allReady(all []cluster.Member) check.Result {
	var bad []string
	for _, m := range all {
		if m.Fresh() && (m.Ready || len(m.Missing) == 0) { // one that stops says goodbye
			continue
		}
		state := check.Sanitize(m.State(), 200)
		if !m.Fresh() {
			state = "no sign of life for " + machine.HumanDuration(m.Silent)
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
