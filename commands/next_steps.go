package commands

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"

	"cis490/internal/check"
	"cis490/internal/config"
)

// installed prints the end of an install by hand: the findings of doctor with their fixes,
// and what the person does next. Findings do not fail the install.
func (a *app) installed(ctx context.Context, w io.Writer, role string) error {
	path := a.configPath(role)
	r := a.examine(ctx, a.checksOf(roleConfig{role, path}, false))
	if err := doctorSummary(w, r); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\nnext steps:\n%s", nextSteps(r, path))
	return err
}

// nextSteps returns the commands to run after an install.
func nextSteps(r check.Report, path string) string {
	step := func(what, command, why string) string { return fmt.Sprintf("  %-18s %s   # %s\n", what, command, why) }
	if r.Role != roleReceiver {
		conf, _, _ := config.LoadLabHost(path) // an invalid one is among the findings
		if slices.ContainsFunc(r.Checks, func(row check.Row) bool { return row.ID == "cert.present" && row.Status == check.Fail }) {
			return step("see why", "sudo journalctl -u cis490-cert-fetch -n 5", "this host has not joined yet; it tries again every 5 minutes")
		}
		return step("see this host", "sudo cis490 status", "it records from now on; its first episode is due within a minute") +
			step("on the receiver", "sudo cis490 host show "+conf.Host, "at "+conf.Receiver.URL)
	}
	conf, _, _ := config.LoadReceiver(path)
	if conf.Authority.Elsewhere {
		_, port, _ := net.SplitHostPort(conf.Listen)
		name := cmp.Or(conf.Name, "NAME")
		return step("at the balancer", fmt.Sprintf("server %s ADDRESS:%s send-proxy-v2 check check-ssl verify none inter 2s", name, port),
			"in haproxy.cfg, with this machine's address: docs/operations.md") +
			step("compare", "sudo cis490 doctor --only cluster.ready --only cluster.agree", "in a few seconds, on any receiver")
	}
	steps := []string{
		step("add a host", "sudo cis490 token create lab-01", "then run on that machine what it prints"),
		step("open the dashboard", conf.PublicURL, "sign in with the token in "+conf.Operator),
	}
	for _, row := range r.Checks {
		if row.ID == "release.published" && row.Status == check.Warn {
			steps = append(steps, step("publish a release", "sudo cis490 release publish DIR",
				"DIR is what `make dist` writes; until then no machine updates itself"))
		}
	}
	return strings.Join(steps, "")
}
