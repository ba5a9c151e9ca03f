//go:build e2e && soak

package e2e

import (
	"fmt"
	"strings"
	"time"
)

// A fault can strike a machine. The test ends it with end; a fault without end is repaired
// by the product alone.
type fault struct {
	name          string
	weight        int
	receiver      bool // strikes the receiver, else a host
	all           bool // causes alerts of all hosts, so no other fault may be active
	good          bool // is not a fault
	needsReceiver bool // is reported to the receiver when it strikes
	least, most   time.Duration
	strike, end   func(*hit, *soak)
	// mended is a command that succeeds on the machine after the repair.
	mended string
	// must are the required alerts; the fault lasts until all have come. may are other
	// correct alerts. Each is "symptom/reason" of the machine, or of each host with the
	// prefix "all:".
	must, may []string
}

// weighted repeats each fault by its weight.
func weighted(all []fault) (cards []fault) {
	for _, f := range all {
		for range f.weight {
			cards = append(cards, f)
		}
	}
	return cards
}

// runs returns a strike that runs one of these commands on the machine.
func runs(commands ...string) func(*hit, *soak) {
	return func(h *hit, _ *soak) { h.at.Run(commands[h.choice%len(commands)]) }
}

// signal returns the command that signals a service's main process.
func signal(name, service string) string {
	return "systemctl kill --kill-whom=main --signal=" + name + " " + service
}

func hostFaults() []fault {
	const s = time.Second
	const ails = "doctor-failing/failing-check"
	// Alerts of a host that was away for long, until it has shipped again.
	back := []string{ails, "silent/failing-check", "silent/not-shipping", "silent/not-recording"}
	const ships = "systemctl is-active --quiet cis490-shipper cis490-orchestrator"
	return []fault{
		{name: "shipper killed", weight: 3, strike: runs(signal("KILL", "cis490-shipper")), mended: ships},
		{name: "recorder killed", weight: 3, strike: runs(signal("KILL", "cis490-orchestrator")), mended: ships},
		{name: "shipper hangs", weight: 2, strike: runs(signal("STOP", "cis490-shipper")), mended: ships},
		{name: "recorder hangs", weight: 1, strike: runs(signal("STOP", "cis490-orchestrator")), mended: ships},
		{name: "rebooted", weight: 3, strike: (*hit).powerOff, end: (*hit).powerOn, mended: ships},
		{
			name: "switched off for long", weight: 2, needsReceiver: true, strike: (*hit).powerOff, end: (*hit).powerOn,
			must: []string{"silent/left"}, may: back, mended: ships,
		},
		{name: "power cut, back at once", weight: 3, strike: (*hit).crash, end: (*hit).powerOn, mended: ships},
		{
			name: "power cut for long", weight: 2, strike: (*hit).crash, end: (*hit).powerOn, must: []string{"silent/nothing"}, may: back,
			mended: ships,
		},
		{name: "cable out", weight: 3, least: 10 * s, most: 30 * s, strike: (*hit).cutOff, end: (*hit).reconnect},
		{name: "cable out for long", weight: 2, strike: (*hit).cutOff, end: (*hit).reconnect, must: []string{"silent/nothing"}, may: back},
		{name: "no name service", weight: 1, least: 10 * s, most: 30 * s, strike: runs("sed -i /collector/d /etc/hosts"), end: (*hit).rightName},
		{name: "captive portal", weight: 2, least: 10 * s, most: 30 * s, strike: (*hit).portal, end: (*hit).rightName},
		{
			name: "host's disk full", weight: 2, must: []string{ails}, may: back,
			strike: runs("fallocate -l $(( $(df --output=avail -B1 " + spool + " | tail -1) - (4<<20) )) " + spool + "/ballast"),
			end:    runs("rm " + spool + "/ballast"),
		},
		{
			name: "timer disabled by hand", weight: 2, may: []string{ails},
			strike: runs("systemctl disable --now cis490-cert-fetch.timer", "systemctl disable --now cis490-doctor-check.timer"),
			mended: "systemctl is-active --quiet cis490-cert-fetch.timer cis490-doctor-check.timer && " +
				"systemctl is-enabled --quiet cis490-cert-fetch.timer cis490-doctor-check.timer",
		},
		{
			name: "service stopped by hand", weight: 2, strike: runs("systemctl stop cis490-shipper", "systemctl disable --now cis490-orchestrator"),
			may: []string{ails}, mended: ships + " && systemctl is-enabled --quiet cis490-orchestrator",
		},
		{
			name: "unit edited by hand", weight: 1,
			strike: runs("sed -i 's/^Restart=.*/Restart=no/' /etc/systemd/system/cis490-shipper.service && systemctl daemon-reload"),
			mended: "test $(systemctl show -p Restart --value cis490-shipper) = on-failure",
		},
		{
			name: "folder closed by hand", weight: 1, strike: runs("chmod 700 " + spool + "/episodes"), may: []string{ails},
			mended: "test $(stat -c %a " + spool + "/episodes) = 2770",
		},
		// No alert is required, because pings report the offset, and the host ships.
		{name: "clock is off", weight: 2, least: 60 * s, most: 120 * s, strike: (*hit).stepClock, end: (*hit).rightClock, may: back},
		{name: "clock is off for a moment", weight: 1, least: 5 * s, most: 20 * s, strike: (*hit).stepClock, end: (*hit).rightClock, may: back},
		{name: "junk among the episodes", weight: 2, strike: (*hit).junk},
	}
}

func receiverFaults() []fault {
	const s = time.Second
	const ails = "doctor-failing/failing-check"
	back := []string{"all:" + ails, "all:silent/failing-check", "all:silent/not-shipping", "all:silent/not-recording"}
	ready := []string{"doctor-failing/receiver.ready", "doctor-failing/units.active"}
	authority := []string{"doctor-failing/authority.reachable", "doctor-failing/units.active"}
	// Episodes have the time of their host's clock, index rows that of the receiver's.
	ledger := append([]string{"all:" + ails, "doctor-failing/clock.ledger"}, ready...)
	const serves = "curl -fsk https://collector.lab:8443/readyz"
	return []fault{
		{name: "receiver killed", weight: 2, receiver: true, strike: runs(signal("KILL", "cis490-receiver")), mended: serves},
		{name: "receiver restarted", weight: 1, receiver: true, strike: runs("systemctl restart cis490-receiver"), mended: serves},
		{name: "receiver hangs", weight: 1, receiver: true, strike: runs(signal("STOP", "cis490-receiver")), may: ready, mended: serves},
		{name: "receiver stopped by hand", weight: 1, receiver: true, strike: runs("systemctl stop cis490-receiver"), may: ready, mended: serves},
		{name: "receiver rebooted", weight: 1, receiver: true, strike: (*hit).powerOff, end: (*hit).powerOn, mended: serves},
		{name: "receiver's power cut", weight: 2, receiver: true, most: 30 * s, strike: (*hit).crash, end: (*hit).powerOn, mended: serves},
		{name: "receiver's cable out", weight: 2, receiver: true, least: 10 * s, most: 30 * s, strike: (*hit).cutOff, end: (*hit).reconnect},
		{
			name: "receiver's cable out for long", weight: 1, receiver: true, all: true, strike: (*hit).cutOff, end: (*hit).reconnect,
			must: []string{"all:silent/nothing"}, may: back,
		},
		{
			name: "receiver's disk full", weight: 1, receiver: true, all: true, least: 10 * s, most: 30 * s,
			strike: runs("fallocate -l $(( $(df --output=avail -B1 /var/lib/cis490 | tail -1) - (40<<20) )) /var/lib/cis490/ballast"),
			end:    runs("rm /var/lib/cis490/ballast"), must: []string{"disk-low/disk.reserve"}, may: ready,
		},
		{
			name: "index is root's", weight: 1, receiver: true, all: true, least: 10 * s, most: 30 * s,
			strike: runs("chown root:root /var/lib/cis490/index.jsonl"),
			end:    runs("chown cis490:cis490 /var/lib/cis490/index.jsonl"), must: []string{"index-broken/ledger.index"}, may: ready,
		},
		{
			name: "gate wrong", weight: 1, receiver: true, all: true, least: 10 * s, most: 30 * s, strike: (*hit).block, end: (*hit).unblock,
			may: []string{"all:doctor-failing/gated", "all:" + ails},
		},
		{
			name: "gate wrong for long", weight: 1, receiver: true, all: true, strike: (*hit).block, end: (*hit).unblock,
			must: []string{"all:silent/gated"}, may: append(back, "all:doctor-failing/gated", "all:fatal-only/gated"),
		},
		{
			name: "authority killed", weight: 1, receiver: true, strike: runs(signal("KILL", "cis490-bootstrap")),
			mended: "curl -fsk https://collector.lab:8444/v1/health",
		},
		{
			name: "authority hangs", weight: 1, receiver: true, strike: runs(signal("STOP", "cis490-bootstrap")), may: authority,
			mended: "curl -fsk https://collector.lab:8444/v1/health",
		},
		{
			name: "authority stopped by hand", weight: 1, receiver: true, strike: runs("systemctl stop cis490-bootstrap"), may: authority,
			mended: "curl -fsk https://collector.lab:8444/v1/health",
		},
		{
			name: "receiver's clock is off", weight: 2, receiver: true, all: true, strike: (*hit).stepClock, end: (*hit).rightClock,
			must: []string{"clock/clock"}, may: ledger,
		},
		{
			name: "receiver's clock is off for a moment", weight: 1, receiver: true, all: true, least: 5 * s, most: 20 * s,
			strike: (*hit).stepClock, end: (*hit).rightClock, may: append(ledger, "clock/clock"),
		},
		{
			name: "receiver's power cut, back with a wrong clock", weight: 1, receiver: true, all: true, least: 10 * s, most: 30 * s,
			strike: (*hit).crashLosingTime, end: (*hit).powerOnThenRight, may: append(ledger, "clock/clock"),
		},
		{name: "good release", weight: 1, good: true, receiver: true, all: true, strike: (*hit).release},
		{
			name: "fleet-check's timer disabled", weight: 1, receiver: true, strike: runs("systemctl disable --now cis490-fleet-health.timer"),
			mended: "systemctl is-active --quiet cis490-fleet-health.timer && systemctl is-enabled --quiet cis490-fleet-health.timer",
		},
	}
}

func (h *hit) powerOff(s *soak) {
	h.at.PowerOff()
	s.off[h.at] = true
}

func (h *hit) crash(s *soak) {
	h.at.Crash()
	s.off[h.at] = true
}

func (h *hit) powerOn(s *soak) {
	h.at.Start()
	s.off[h.at] = false
}

func (h *hit) cutOff(*soak) { h.at.CutOff() }

func (h *hit) reconnect(*soak) { h.at.Reconnect() }

// rightName makes the receiver's name resolve to the receiver again.
func (h *hit) rightName(s *soak) {
	h.at.Run("sed -i /collector/d /etc/hosts && echo '" + s.rx.Addr + " collector.lab collector' >> /etc/hosts")
}

// portal makes the receiver's name resolve to the captive portal.
func (h *hit) portal(*soak) {
	h.at.Run(`sed -i /collector/d /etc/hosts && echo "$(getent hosts switch.lab | cut -d' ' -f1) collector.lab" >> /etc/hosts`)
}

// clockOff is the step of clocks: longer than silent_after, and shorter than the remaining
// validity of a certificate at its renewal.
const clockOff = 7 * time.Minute

func (h *hit) stepClock(*soak) { h.at.StepClock([]time.Duration{clockOff, -clockOff}[h.choice%2]) }

func (h *hit) rightClock(*soak) { h.at.StepClock(0) }

// crashLosingTime cuts the power of a machine without a battery for its clock.
func (h *hit) crashLosingTime(s *soak) {
	h.crash(s)
	h.stepClock(s)
}

// powerOnThenRight boots, and corrects the clock a while later.
func (h *hit) powerOnThenRight(s *soak) {
	h.powerOn(s)
	time.Sleep(checkEvery)
	h.rightClock(s)
}

// junk creates an invalid episode.
func (h *hit) junk(s *soak) {
	id := fmt.Sprintf("01J%023d", time.Now().UnixMicro())
	s.aside[h.at.Name+"/"+id] = true
	what := []string{"ln -s /etc/passwd meta.json", "head -c 5000 /dev/urandom > meta.json", "touch notes"}[h.choice%3]
	h.at.Run("cd " + spool + "/episodes && mkdir " + id + " && cd " + id + " && " + what +
		" && touch done.marker && chown -hR cis490-rec:cis490 . && chmod 2770 .")
	h.mended = "test -e " + spool + "/quarantine/" + id + "/quarantine_reason.json"
}

// release publishes a version. It is mended when the version has passed its trial on every
// machine, because a fault during a trial would fail the version.
func (h *hit) release(s *soak) {
	version := fmt.Sprintf("v%d", s.seq+1)
	s.publish(version, s.binary(version))
	h.mended = `jq -e '[.hosts[].update.good.version] | all(. == "` + version +
		`")' /var/lib/cis490/contacts.json && jq -e '.good.version == "` + version + `"' /opt/cis490/autoupdate.json`
}

// block makes the gate reject the hosts' commit.
func (h *hit) block(*soak) {
	commit := h.at.Run("cis490 version --json | jq -r .commit")
	h.at.Write("/etc/cis490/receiver.toml", h.at.Read("/etc/cis490/receiver.toml")+"[gate]\nblocked_commits = [\""+commit+"\"]\n", 0o644)
}

func (h *hit) unblock(*soak) {
	right, _, _ := strings.Cut(h.at.Read("/etc/cis490/receiver.toml"), "[gate]")
	h.at.Write("/etc/cis490/receiver.toml", right, 0o644)
}
