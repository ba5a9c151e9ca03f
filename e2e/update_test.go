//go:build e2e

package e2e

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"cis490/e2e/lab"
)

// TestUpdate_GoodRelease: a release with a new unit directive and a new experiment reaches
// the receiver, a canary, a quarter of the hosts and then all, without action on any of
// them. No episode is lost or refused, and shipping pauses for 5 s at most.
func TestUpdate_GoodRelease(t *testing.T) {
	inLane(t)
	var names []string
	for i := range 10 {
		names = append(names, fmt.Sprintf("lab-%02d", i+1))
	}
	u := newUpdates(t, names)
	// A mask belongs to the site, like a drop-in.
	u.hosts[0].Run("systemctl stop cis490-doctor-check.timer && ln -sf /dev/null /etc/systemd/system/cis490-doctor-check.timer && " +
		"systemctl daemon-reload")
	experiment := filepath.Join(t.TempDir(), "experiment.toml")
	for _, h := range u.hosts { // record the release's experiment
		h.Run("sed -i '/^experiment = /d' /etc/cis490/lab-host.toml && systemctl restart cis490-orchestrator")
	}
	b := []byte("# of release v2\n" + lightExperiment)
	sum := fmt.Sprintf("%x", sha256.Sum256(b))[:12]
	if err := os.WriteFile(experiment, b, 0o644); err != nil {
		t.Fatal(err)
	}
	v2 := buildPatched(t, "v2", nil, edit{"assets/units/cis490-shipper.service.tmpl", "Nice=10", "Nice=11\nEnvironment=RELEASE=v2"})
	older := u.sign("v1.5", lab.BinaryWith(t, "v1", commitOf("v1")))
	began := time.Now()
	u.publish("v2", v2, experiment)
	u.waitVersion(u.rx, "v2", 3*time.Minute)
	first := u.waitCanary("v2")
	u.checkTrialShown(first, "v2")
	for _, h := range u.hosts {
		if h != first && h.Run("readlink /opt/cis490/current") != "versions/v1" {
			t.Errorf("%s installed v2 while %s is the canary", h.Name, first.Name)
		}
	}
	u.waitStage("v2", "all", 6*time.Minute)
	for _, h := range u.hosts {
		u.waitVersion(h, "v2", 4*time.Minute)
	}
	t.Logf("v2 passed its trial on the receiver and %d hosts within %s of its publication; canary %s", len(names),
		time.Since(began).Round(time.Second), first.Name)
	if masked := u.hosts[0].Run("readlink /etc/systemd/system/cis490-doctor-check.timer"); masked != "/dev/null" {
		t.Errorf("a masked timer links to %s", masked)
	}
	for _, h := range u.hosts {
		if env := h.Run("systemctl show -p Environment --value cis490-shipper"); !strings.Contains(env, "RELEASE=v2") {
			t.Errorf("%s: the unit has Environment=%s", h.Name, env)
		}
		if left := h.Run("ls /opt/cis490/versions"); left != "v2" {
			t.Errorf("%s: versions left: %s", h.Name, left)
		}
		if every := h.Run("systemctl show -p TimersMonotonic --value cis490-autoupdate.timer"); !strings.Contains(every, "OnUnitActiveUSec=10s") {
			t.Errorf("%s: the site's drop-in has no effect any more: %s", h.Name, every)
		}
		pause := lastShippingPause(t, h)
		t.Logf("%s: shipping paused for %s", h.Name, pause)
		if pause > 5*time.Second {
			t.Errorf("%s: shipping paused for %s", h.Name, pause)
		}
		if records := h.Run("cis490 doctor --only experiment.valid"); !strings.Contains(records, sum) {
			t.Errorf("%s does not record the release's experiment, %s…: %s", h.Name, sum, records)
		}
		before := len(u.index())
		u.rx.Eventually(90*time.Second, "an episode of "+h.Name+" by v2",
			fmt.Sprintf(`tail -n +%d /var/lib/cis490/index.jsonl | grep '"host":"%s"' | grep -q %s`, before+1, h.Name, commitOf("v2")))
	}
	if refused := u.rx.Try(`grep -h '"kind":"gate"' /var/lib/cis490/rejections.jsonl`); strings.TrimSpace(refused.Out) != "" {
		t.Errorf("episodes were refused: %s", refused.Out)
	}
	u.quiesce()
	u.checkEachStoredOnce()

	// An install from the folder of an older, unpublished release succeeds, and prints why it
	// does not publish that release.
	if out := u.rx.Run(older + "/cis490-linux-amd64 install receiver"); !strings.Contains(out, "seq 2 is lower than 3, which is published") {
		t.Errorf("an install from an older release printed:\n%s", out)
	}
}

// checkTrialShown checks that all commands on the host show that a version is on trial.
func (u *updates) checkTrialShown(h *lab.Host, version string) {
	u.t.Helper()
	h.Eventually(60*time.Second, "a trial of "+version, `jq -e '.trial.version == "`+version+`" and .trial.phase == "observing"' `+
		`/opt/cis490/autoupdate.json`)
	for command, want := range map[string]string{
		"cis490 autoupdate --check --json | jq -r .status.trial.version": version,
		"cis490 autoupdate --check":                                      "version " + version + " is on trial",
		"cis490 status":                                                  version,
		"cis490 doctor --only update.state":                              "version " + version + " is on trial",
	} {
		if out := h.Run(command); !strings.Contains(out, want) {
			u.t.Errorf("%s: %s printed %q, want %q in it", h.Name, command, out, want)
		}
	}
}

// lastShippingPause returns how long the shipper was down in its last restart.
func lastShippingPause(t *testing.T, h *lab.Host) time.Duration {
	t.Helper()
	var stopped, longest float64
	for line := range strings.Lines(h.Run(`journalctl -u cis490-shipper -o short-unix --no-pager | ` +
		`grep -E 'systemd\[1\]: (Stopping|Started) cis490-shipper' || journalctl -u cis490-shipper -o short-unix --no-pager | tail -5`)) {
		at, err := strconv.ParseFloat(strings.Fields(line)[0], 64)
		if err != nil {
			t.Fatalf("%s: journal: %q", h.Name, line)
		}
		switch {
		case strings.Contains(line, "Stopping"):
			stopped = at
		case strings.Contains(line, "Started") && stopped > 0:
			longest = at - stopped
			stopped = 0
		}
	}
	if longest == 0 {
		t.Errorf("%s: the journal has no restart of the shipper", h.Name)
	}
	return time.Duration(longest * float64(time.Second))
}

// A badRelease must not reach the fleet.
type badRelease struct {
	version string
	env     []string
	edits   []edit
	why     string // part of the reason that the host reports
}

const shipStart = "func (a *app) ship(c *cli.Context) error {\n"

// atShipStart returns the edit that runs code when the shipper's daemon starts.
func atShipStart(code string) edit {
	return edit{"commands/ship.go", shipStart, shipStart + "\tif !c.Bool(\"ping\") && !c.Bool(\"once\") {\n" + code + "\n\t}\n"}
}

// TestUpdate_BadAtOnce: a release that fails at the start of its trial is rolled back on
// its canary, binary and units, and withdrawn before another host has installed it.
func TestUpdate_BadAtOnce(t *testing.T) {
	inLane(t)
	u := newBadUpdates(t)
	for _, b := range []badRelease{
		{"bad-arch", []string{"GOARCH=arm64"}, nil, "does not run here"},
		{"bad-link", nil, []edit{{
			"install/install.go", "	if changed == 0 {\n",
			"	if p.Update {\n		_ = os.Remove(\"/opt/cis490/current\")\n	}\n	if changed == 0 {\n",
		}}, "does not point to it"},
		{"bad-install", nil, []edit{{
			"install/install.go", "	changed := 0\n",
			"	if p.Update {\n		return errors.New(\"bad release: install\")\n	}\n	changed := 0\n",
		}}, "bad release: install"},
		{"bad-exits", nil, []edit{atShipStart("\t\tpanic(\"bad release: exits at start\")")}, "cis490-shipper.service"},
		{"bad-unit", nil, []edit{
			{"assets/units/cis490-shipper.service.tmpl", "Nice=10", "Nice=10\nEnvironment=BAD=1"},
			{
				"internal/config/labhost.go", "	Update      Update      `toml:\"update\"`\n",
				"	Update      Update      `toml:\"update\"`\n	NewKey      string      `toml:\"new_key\"`\n",
			},
			atShipStart("\t\tpanic(\"bad release: unit\")"),
		}, "cis490-shipper.service"},
		{"bad-hangs", nil, []edit{atShipStart("\t\ttime.Sleep(time.Hour)")}, "cis490-shipper.service"},
	} {
		u.checkRollback(b, nil)
	}
	u.quiesce()
	u.checkEachStoredOnce()
}

// TestUpdate_BadLater is TestUpdate_BadAtOnce for releases that fail during their trial.
func TestUpdate_BadLater(t *testing.T) {
	inLane(t)
	u := newBadUpdates(t)
	for _, b := range []badRelease{
		{
			"bad-late", nil,
			[]edit{atShipStart("\t\tgo func() { time.Sleep(16 * time.Second); panic(\"bad release: late\") }()")},
			"cis490-shipper.service",
		},
		{
			"bad-ships", nil,
			[]edit{{"internal/wire/wire.go", `return EpisodesPath + "/" + string(h)`, `return "/v1/episodez/" + string(h)`}},
			"none was accepted",
		},
		{"bad-fills", nil, []edit{atShipStart("\t\tf, _ := disk.OS{}.OpenFile(\"/var/lib/cis490/data/outbox/junk\", 0x41, 0o600)\n" +
			"\t\tfor b := make([]byte, 1<<20); ; {\n\t\t\tif _, err := f.Write(b); err != nil {\n\t\t\t\tbreak\n\t\t\t}\n\t\t}")}, ""},
	} {
		u.checkRollback(b, nil)
	}
	u.quiesce()
	u.checkEachStoredOnce()
}

// newBadUpdates returns a fleet for releases that are bad for lab hosts. The receiver does
// not update.
func newBadUpdates(t *testing.T) *updates {
	t.Helper()
	u := newUpdates(t, []string{"lab-01", "lab-02"}, lab.WithTmpfs("/var/lib/cis490/data", "128M"))
	stopAutoupdate(u.rx)
	for _, h := range u.hosts {
		h.Run(`sed -i '1i new_key = "of a newer version"' /etc/cis490/lab-host.toml`)
		// systemd's limit for a start is 90 s; here it is shorter.
		h.Run(`mkdir /etc/systemd/system/cis490-shipper.service.d && ` +
			`printf '[Service]\nTimeoutStartSec=15\n' >/etc/systemd/system/cis490-shipper.service.d/lab.conf && systemctl daemon-reload`)
	}
	return u
}

// checkRollback publishes a bad release, and checks that it is withdrawn and rolled back on
// its canary.
func (u *updates) checkRollback(b badRelease, meanwhile func(canary *lab.Host)) (withdrawn, back time.Time) {
	u.t.Helper()
	units := map[string]string{}
	const unitState = `cd /etc/systemd/system && cat cis490-*.service cis490-*.timer`
	for _, h := range u.hosts {
		units[h.Name] = h.Run(unitState)
	}
	began := time.Now()
	u.publish(b.version, buildPatched(u.t, b.version, b.env, b.edits...))
	u.rx.Run("cis490 release promote --seq " + fmt.Sprint(u.seq))
	canary := u.waitCanary(b.version)
	if meanwhile != nil {
		meanwhile(canary)
	}
	u.waitStage(b.version, "withdrawn", 5*time.Minute)
	withdrawn = time.Now()
	u.waitVersion(canary, "v1", 60*time.Second)
	back = time.Now()
	status := canary.Run("cat /opt/cis490/autoupdate.json")
	if !strings.Contains(status, b.version) || !strings.Contains(status, b.why) {
		u.t.Errorf("%s: status of %s is %s, want %q in it", b.version, canary.Name, status, b.why)
	}
	u.t.Logf("%s: withdrawn %s after it was published: %s", b.version, time.Since(began).Round(time.Second),
		u.rx.Run(fmt.Sprintf(`cis490 release list --json | jq -r '.[] | select(.version == "%s") | .reason'`, b.version)))
	for _, h := range u.hosts {
		if h.Run(unitState) != units[h.Name] {
			u.t.Errorf("%s: units of %s have changed", b.version, h.Name)
		}
		if h != canary && strings.Contains(h.Journal("cis490-autoupdate.service"), `version=`+b.version) {
			u.t.Errorf("%s: %s installed it too", b.version, h.Name)
		}
		h.Run("rm -f /var/lib/cis490/data/outbox/junk")
		before := len(u.index())
		u.rx.Eventually(2*time.Minute, "an episode of "+h.Name+" after "+b.version,
			fmt.Sprintf(`%s | tail -n +%d | grep -q '"host":"%s"'`, u.state("index.jsonl"), before+1, h.Name))
	}
	return withdrawn, back
}
