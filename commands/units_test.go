package commands_test

import (
	"regexp"
	"strings"
	"testing"

	"cis490/install"
)

// TestUnits_StartWhatTheProgramKnows holds units and command line together: what
// a unit starts must be a subcommand, with flags and values that it takes.
func TestUnits_StartWhatTheProgramKnows(t *testing.T) {
	exec := regexp.MustCompile(`(?m)^ExecStart=(\S+) (.+)$`)
	data := install.UnitData{
		Exec: "/cis490", Good: "/cis490", DataDir: "/data", CertsDir: "/certs",
		Store: "/store", AuthorityDir: "/authority",
	}
	for _, role := range []install.Role{install.LabHost, install.Receiver} {
		for _, unit := range role.Units() {
			content, err := install.Render(unit, data)
			if err != nil {
				t.Fatal(err)
			}
			starts := exec.FindAllStringSubmatch(string(content), -1)
			if strings.HasSuffix(unit, ".service") != (len(starts) == 1) {
				t.Errorf("%s starts %d commands", unit, len(starts))
			}
			for _, s := range starts {
				args := append(strings.Fields(s[2]), "--help")
				if out, errOut, code := run(t, args...); code != 0 || errOut != "" || !strings.Contains(out, "cis490 "+args[0]) {
					t.Errorf("%s: cis490 %s: exit code %d, %s", unit, s[2], code, errOut)
				}
			}
		}
	}
}
