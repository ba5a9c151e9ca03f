package commands

import (
	"fmt"

	"github.com/urfave/cli/v2"

	labchecks "cis490/agent/checks"
	"cis490/internal/check"
	rxchecks "cis490/receiver/checks"
	"cis490/receiver/fleet"
)

// explained is what explain prints of one name.
type explained struct {
	Kind    string `json:"kind"` // "symptom" or "check"
	Name    string `json:"name"`
	Role    string `json:"role,omitempty"` // of a check
	Title   string `json:"title,omitempty"`
	Meaning string `json:"meaning"`
	Fix     string `json:"fix"`
	Docs    string `json:"docs"`
}

func (a *app) explainCommand() *cli.Command {
	return &cli.Command{
		Name: "explain", Usage: "print what a symptom or a check means, and its fix", ArgsUsage: "SYMPTOM|CHECK",
		Description: "Explains a symptom of 'cis490 alerts list' or a check of 'cis490 doctor'. It does\n" +
			"not read this machine's state.\n\nExamples:\n   cis490 explain silent\n   cis490 explain cert.expiry --json",
		Flags:  []cli.Flag{jsonFlag()},
		Action: a.explain,
	}
}

func (a *app) explain(c *cli.Context) error {
	args, err := looseArgs(c)
	if err != nil {
		return err
	}
	if len(args) != 1 {
		return usagef(c, "want one SYMPTOM or CHECK, as `cis490 alerts list` and `cis490 doctor --all` show them")
	}
	all := explanations(args[0])
	if len(all) == 0 {
		names := append(fleet.Symptoms(), checkIDs(roleLabHost, roleReceiver)...)
		return usagef(c, "no symptom or check is named %q%s", check.Sanitize(args[0], 80), meant("", args[0], names))
	}
	if c.Bool("json") {
		return a.printJSON(all)
	}
	for i, x := range all {
		if i > 0 {
			a.printf("\n")
		}
		switch x.Kind {
		case "check":
			a.printf("check %s of a %s: %s\n\n", x.Name, title(x.Role), x.Title)
		default:
			a.printf("symptom %s\n\n", x.Name)
		}
		a.printf("  %s\n", x.Meaning)
		a.printf("  fix: %s\n", x.Fix)
		if x.Kind == "symptom" {
			a.printf("       An alert has the fix of its own reason: sudo cis490 alerts list\n")
		}
		a.printf("  see: %s\n", x.Docs)
	}
	return nil
}

// explanations returns what there is under a name; a check may exist in both roles.
func explanations(name string) []explained {
	all := []explained{}
	if fleet.IsSymptom(name) {
		all = append(all, explained{
			Kind: "symptom", Name: name, Meaning: fleet.Meaning(name), Fix: fleet.UsualFix(name), Docs: "docs/operations.md#symptoms",
		})
	}
	for _, role := range []string{roleLabHost, roleReceiver} {
		for _, k := range registryOf(role) {
			if k.ID == name {
				all = append(all, explained{"check", name, role, k.Title, k.Doc, k.Fix, fmt.Sprintf("docs/checks.md#%s.%s", role, name)})
			}
		}
	}
	return all
}

// registryOf returns a role's checks without a machine.
func registryOf(role string) []check.Check {
	if role == roleReceiver {
		return rxchecks.Checks(rxchecks.Options{})
	}
	return labchecks.Checks(labchecks.Options{})
}

// checkIDs returns the ids of the checks of some roles, each once.
func checkIDs(roles ...string) []string {
	var ids []string
	seen := map[string]bool{}
	for _, role := range roles {
		for _, k := range registryOf(role) {
			if !seen[k.ID] {
				seen[k.ID] = true
				ids = append(ids, k.ID)
			}
		}
	}
	return ids
}
