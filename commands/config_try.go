package commands

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"cis490/internal/check"
	"cis490/internal/config"
	"cis490/receiver/notify"
)

// tryConfig tries what the configs name: the checks that ask other machines, and a test
// message to each notify target. lab or rx may be "".
func (a *app) tryConfig(c *cli.Context, lab, rx string) error {
	var checks []check.Check
	if lab != "" {
		_, all := a.labHostChecks(roleConfig{roleLabHost, lab})
		checks = append(checks, all...)
	}
	if rx != "" {
		_, all := a.receiverChecks(roleConfig{roleReceiver, rx}, false)
		checks = append(checks, all...)
	}
	checks = slices.DeleteFunc(checks, func(k check.Check) bool {
		asks, _, _ := strings.Cut(k.ID, ".")
		return !slices.Contains([]string{"dns", "receiver", "authority", "store", "tls"}, asks)
	})
	failed := false
	for _, row := range check.Run(c.Context, checks) {
		failed = failed || row.Status == check.Fail
		a.printf("%s  %s: %s\n", mark(row.Status), row.Title, row.Detail)
		if row.Fix != "" {
			a.printf("      fix: %s\n", row.Fix)
		}
	}
	if rx != "" {
		conf, _, err := config.LoadReceiver(rx)
		if err != nil {
			return err
		}
		results := a.sendTests(c.Context, notify.All(conf.Notify))
		a.printTests(results, rx)
		failed = failed || slices.ContainsFunc(results, func(r delivered) bool { return !r.OK })
	}
	if failed {
		return verdict()
	}
	return nil
}
