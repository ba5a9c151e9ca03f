package fleet

import (
	"regexp"
	"strings"

	"cis490/internal/check"
	"cis490/internal/machine"
	"cis490/internal/wire"
)

// Fixes that no check has. HOST stands for the host's name, N for a number.
const (
	fixLeft    = "nothing: it comes back when it is switched on"
	fixNothing = "on HOST: sudo cis490 doctor   # once it is switched on; look at its network, too"
	fixGone    = "on HOST: sudo cis490 doctor   # once it is switched on; if it is gone for good, " +
		"on the receiver: sudo cis490 host decommission HOST"
	fixDoctor  = "on HOST: sudo cis490 doctor"
	fixBlocked = "on the receiver: sudo cis490 release list   # HOST takes the next release by itself; to accept its data, " +
		"remove its commit from [gate] blocked_commits in /etc/cis490/receiver.toml, or promote its release with --force"
	fixUnused = "on the receiver: sudo cis490 token create HOST   # then paste its output on HOST; " +
		"if HOST is not needed: sudo cis490 host decommission HOST"
	fixTwoMachines = "on the receiver: sudo cis490 token create NEW-NAME   # then on one of the two machines: " +
		"sudo sed -i 's/^host = .*/host = \"NEW-NAME\"/' /etc/cis490/lab-host.toml; then paste there what token create printed"
	fixMisused = "on the receiver: sudo cis490 host show HOST   # is the enrolled machine the right one? " +
		"if not: sudo cis490 host decommission HOST"
	fixNotUpdated = "on HOST: sudo systemctl start cis490-autoupdate; sudo journalctl -u cis490-autoupdate -n 20 --no-pager"
	fixNoUpdates  = "on HOST: sudo cis490 install lab-host   # enables cis490-autoupdate.timer"
	fixRolledBack = "on the receiver: sudo cis490 release list   # if the release is bad: sudo cis490 release withdraw --seq N; " +
		"HOST keeps its version"
	fixClock    = "on the receiver: " + machine.ClockFix
	fixVanished = "on the receiver: sudo mount -a; sudo journalctl -u cis490-receiver -n 20 --no-pager   # is the data disk mounted? " +
		"if it is lost, the log shows how to start with an empty store"
	fixRoster = "on the receiver: sudo mount -a; sudo systemctl restart cis490-bootstrap; sudo ls -l /var/lib/cis490-authority   " +
		"# is its disk mounted? if it is lost: sudo cis490 restore --help"
	fixDisk = "on the receiver: sudo dmesg | tail -n 30; sudo cis490 doctor --role receiver   " +
		"# repair the disk, or move the receiver to another one: docs/operations.md"
	fixNoSpace = "on the receiver: df -h /var/lib/cis490; df -i /var/lib/cis490   # free space there, or remove the small files that fill it"
	fixOwner   = "on the receiver: sudo cis490 install receiver; sudo cis490 doctor --fix   # gives the data back to serve's user"
	fixData    = "on the receiver: sudo cis490 doctor --role receiver; sudo journalctl -u cis490-fleet-health -n 20 --no-pager"
	fixNotOurs = "sudo cis490 fleet-check --dry-run   # the recorded fix does not belong to this version"

	maxFix          = 500 // characters
	seqPlaceholder  = "--seq N"
	hostPlaceholder = "HOST"
)

// forHost returns a fix with the host's name.
func forHost(fix, host string) string {
	if host == Receiver {
		return fix
	}
	return strings.ReplaceAll(strings.ReplaceAll(fix, "on the lab host", "on "+host), hostPlaceholder, host)
}

// OwnFixes returns the alerts with only those fixes that this version has, in its checks
// and in this package. A process that can write the last run could store another command
// there, which root would paste.
func OwnFixes(alerts []Alert, checks []check.Check) []Alert {
	fixes := []string{
		"", fixLeft, fixNothing, fixGone, fixDoctor, fixBlocked, fixUnused, fixTwoMachines, fixMisused, fixNotUpdated, fixNoUpdates,
		fixRolledBack, fixClock,
		fixVanished, fixRoster, fixDisk, fixNoSpace, fixOwner, fixData,
	}
	for _, c := range checks {
		fixes = append(fixes, c.Fix)
	}
	for _, a := range wire.Answers() {
		fixes = append(fixes, a.Fix)
	}
	number := regexp.MustCompile(`--seq \d+`)
	known := map[string]bool{}
	out := make([]Alert, len(alerts))
	for i, a := range alerts {
		clear(known)
		for _, fix := range fixes {
			known[check.Sanitize(forHost(fix, a.Host), maxFix)] = true
		}
		if !known[number.ReplaceAllString(a.Fix, seqPlaceholder)] {
			a.Fix = fixNotOurs
		}
		out[i] = a
	}
	return out
}
