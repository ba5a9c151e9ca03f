//go:build e2e && soak

package e2e

import (
	"fmt"
	"strings"
	"time"
)

// A fault is what may strike, and how the surroundings end it again. What has no
// end is mended by the product alone.
type fault struct {
	name        string
	weight      int
	receiver    bool // it strikes the receiver, else a host
	all         bool // hosts have alerts of it, so that no other fault may be there
	good        bool // it is no fault
	told        bool // the receiver is told of it when it strikes, and has to be there
	least, most time.Duration
	strike, end func(*hit, *soak)
	// mended is a command on the machine that works when what was broken is whole.
	mended string
	// must are the alerts that have to come, and for whose coming the fault lasts;
	// may those that are right as well. Each is "symptom/reason" of the machine, and
	// with "all:" before it, of each host.
	must, may []string
}

// dealt has each fault as often as it weighs.
func dealt(all []fault) (cards []fault) {
	for _, f := range all {
		for range f.weight {
			cards = append(cards, f)
		}
	}
	return cards
}

// does runs a command on the machine that is struck, one of these.
func does(commands ...string) func(*hit, *soak) {
	return func(h *hit, _ *soak) { h.at.Run(commands[h.choice%len(commands)]) }
}

// signal is the command that signals a service's main process.
func signal(name, service string) string {
	return "systemctl kill --kill-whom=main --signal=" + name + " " + service
}

func hostFaults() []fault {
	const s = time.Second
	const ails = "doctor-failing/failing-check"
	// What a host that was away for long says of itself until it has shipped again.
	back := []string{ails, "silent/failing-check", "silent/not-shipping", "silent/not-recording"}
	const ships = "systemctl is-active --quiet cis490-shipper cis490-orchestrator"
	return []fault{
		{name: "shipper killed", weight: 3, strike: does(signal("KILL", "cis490-shipper")), mended: ships},
		{name: "recorder killed", weight: 3, strike: does(signal("KILL", "cis490-orchestrator")), mended: ships},
		{name: "shipper hangs", weight: 2, strike: does(signal("STOP", "cis490-shipper")), mended: ships},
		{name: "recorder hangs", weight: 1, strike: does(signal("STOP", "cis490-orchestrator")), mended: ships},
		{name: "rebooted", weight: 3, strike: (*hit).powerOff, end: (*hit).powerOn, mended: ships},
		{name: "switched off for long", weight: 2, told: true, strike: (*hit).powerOff, end: (*hit).powerOn, must: []string{"silent/left"}, may: back, mended: ships},
		{name: "power cut, back at once", weight: 3, strike: (*hit).crash, end: (*hit).powerOn, mended: ships},
		{name: "power cut for long", weight: 2, strike: (*hit).crash, end: (*hit).powerOn, must: []string{"silent/nothing"}, may: back, mended: ships},
		{name: "cable out", weight: 3, least: 10 * s, most: 30 * s, strike: (*hit).cutOff, end: (*hit).reconnect},
		{name: "cable out for long", weight: 2, strike: (*hit).cutOff, end: (*hit).reconnect, must: []string{"silent/nothing"}, may: back},
		{name: "no name service", weight: 1, least: 10 * s, most: 30 * s, strike: does("sed -i /collector/d /etc/hosts"), end: (*hit).rightName},
		{name: "captive portal", weight: 2, least: 10 * s, most: 30 * s, strike: (*hit).portal, end: (*hit).rightName},
		{
			name: "host's disk full", weight: 2, must: []string{ails}, may: back,
			strike: does("fallocate -l $(( $(df --output=avail -B1 " + spool + " | tail -1) - (4<<20) )) " + spool + "/ballast"), end: does("rm " + spool + "/ballast"),
		},
		{
			name: "timer disabled by hand", weight: 2, may: []string{ails},
			strike: does("systemctl disable --now cis490-cert-fetch.timer", "systemctl disable --now cis490-doctor-check.timer"),
			mended: "systemctl is-active --quiet cis490-cert-fetch.timer cis490-doctor-check.timer && systemctl is-enabled --quiet cis490-cert-fetch.timer cis490-doctor-check.timer",
		},
		{
			name: "service stopped by hand", weight: 2, strike: does("systemctl stop cis490-shipper", "systemctl disable --now cis490-orchestrator"),
			may: []string{ails}, mended: ships + " && systemctl is-enabled --quiet cis490-orchestrator",
		},
		{
			name: "unit edited by hand", weight: 1, strike: does("sed -i 's/^Restart=.*/Restart=no/' /etc/systemd/system/cis490-shipper.service && systemctl daemon-reload"),
			mended: "test $(systemctl show -p Restart --value cis490-shipper) = on-failure",
		},
		{name: "folder closed by hand", weight: 1, strike: does("chmod 700 " + spool + "/episodes"), may: []string{ails}, mended: "test $(stat -c %a " + spool + "/episodes) = 2770"},
		// No alert has to come: its pings say how far it is off, and it ships.
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
	// Episodes are stamped by their host's clock, and the index by the receiver's.
	ledger := append([]string{"all:" + ails, "doctor-failing/clock.ledger"}, ready...)
	const serves = "curl -fsk https://collector.lab:8443/readyz"
	return []fault{
		{name: "receiver killed", weight: 2, receiver: true, strike: does(signal("KILL", "cis490-receiver")), mended: serves},
		{name: "receiver restarted", weight: 1, receiver: true, strike: does("systemctl restart cis490-receiver"), mended: serves},
		{name: "receiver hangs", weight: 1, receiver: true, strike: does(signal("STOP", "cis490-receiver")), may: ready, mended: serves},
		{name: "receiver stopped by hand", weight: 1, receiver: true, strike: does("systemctl stop cis490-receiver"), may: ready, mended: serves},
		{name: "receiver rebooted", weight: 1, receiver: true, strike: (*hit).powerOff, end: (*hit).powerOn, mended: serves},
		{name: "receiver's power cut", weight: 2, receiver: true, most: 30 * s, strike: (*hit).crash, end: (*hit).powerOn, mended: serves},
		{name: "receiver's cable out", weight: 2, receiver: true, least: 10 * s, most: 30 * s, strike: (*hit).cutOff, end: (*hit).reconnect},
		{name: "receiver's cable out for long", weight: 1, receiver: true, all: true, strike: (*hit).cutOff, end: (*hit).reconnect, must: []string{"all:silent/nothing"}, may: back},
		{
			name: "receiver's disk full", weight: 1, receiver: true, all: true, least: 10 * s, most: 30 * s,
			strike: does("fallocate -l $(( $(df --output=avail -B1 /var/lib/cis490 | tail -1) - (40<<20) )) /var/lib/cis490/ballast"),
			end:    does("rm /var/lib/cis490/ballast"), must: []string{"disk-low/disk.reserve"}, may: ready,
		},
		{
			name: "index is root's", weight: 1, receiver: true, all: true, least: 10 * s, most: 30 * s, strike: does("chown root:root /var/lib/cis490/index.jsonl"),
			end: does("chown cis490:cis490 /var/lib/cis490/index.jsonl"), must: []string{"index-broken/ledger.index"}, may: ready,
		},
		{name: "gate wrong", weight: 1, receiver: true, all: true, least: 10 * s, most: 30 * s, strike: (*hit).block, end: (*hit).unblock, may: []string{"all:doctor-failing/gated", "all:" + ails}},
		{
			name: "gate wrong for long", weight: 1, receiver: true, all: true, strike: (*hit).block, end: (*hit).unblock,
			must: []string{"all:silent/gated"}, may: append(back, "all:doctor-failing/gated", "all:fatal-only/gated"),
		},
		{name: "authority killed", weight: 1, receiver: true, strike: does(signal("KILL", "cis490-bootstrap")), mended: "curl -fsk https://collector.lab:8444/v1/health"},
		{name: "authority hangs", weight: 1, receiver: true, strike: does(signal("STOP", "cis490-bootstrap")), may: authority, mended: "curl -fsk https://collector.lab:8444/v1/health"},
		{name: "authority stopped by hand", weight: 1, receiver: true, strike: does("systemctl stop cis490-bootstrap"), may: authority, mended: "curl -fsk https://collector.lab:8444/v1/health"},
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
			name: "fleet-check's timer disabled", weight: 1, receiver: true, strike: does("systemctl disable --now cis490-fleet-health.timer"),
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

// rightName lets the receiver's name lead to it again.
func (h *hit) rightName(s *soak) {
	h.at.Run("sed -i /collector/d /etc/hosts && echo '" + s.rx.Addr + " collector.lab collector' >> /etc/hosts")
}

// portal puts the host into a network in which each name leads to the same server.
func (h *hit) portal(*soak) {
	h.at.Run(`sed -i /collector/d /etc/hosts && echo "$(getent hosts switch.lab | cut -d' ' -f1) collector.lab" >> /etc/hosts`)
}

// clockOff is by how much clocks are stepped: longer than a host may be silent, and less
// than what a certificate has left when it is renewed.
const clockOff = 7 * time.Minute

func (h *hit) stepClock(*soak) { h.at.StepClock([]time.Duration{clockOff, -clockOff}[h.choice%2]) }

func (h *hit) rightClock(*soak) { h.at.StepClock(0) }

// crashLosingTime cuts the power of a machine without a battery for its clock.
func (h *hit) crashLosingTime(s *soak) {
	h.crash(s)
	h.stepClock(s)
}

// powerOnThenRight boots, and sets the clock right a while later.
func (h *hit) powerOnThenRight(s *soak) {
	h.powerOn(s)
	time.Sleep(checkEvery)
	h.rightClock(s)
}

// junk leaves a folder among the episodes that looks like one and is none.
func (h *hit) junk(s *soak) {
	id := fmt.Sprintf("01J%023d", time.Now().UnixMicro())
	s.aside[h.at.Name+"/"+id] = true
	what := []string{"ln -s /etc/passwd meta.json", "head -c 5000 /dev/urandom > meta.json", "touch notes"}[h.choice%3]
	h.at.Run("cd " + spool + "/episodes && mkdir " + id + " && cd " + id + " && " + what + " && touch done.marker && chown -hR cis490-rec:cis490 . && chmod 2770 .")
	h.mended = "test -e " + spool + "/quarantine/" + id + "/quarantine_reason.json"
}

// release publishes a version; it has arrived when it has proven itself everywhere,
// as a daemon that is killed in mid-trial is held against it.
func (h *hit) release(s *soak) {
	version := fmt.Sprintf("v%d", s.seq+1)
	s.publish(version, s.binary(version))
	h.mended = `jq -e '[.hosts[].update.good.version] | all(. == "` + version + `")' /var/lib/cis490/contacts.json && jq -e '.good.version == "` + version + `"' /opt/cis490/autoupdate.json`
}

// block makes the receiver refuse what the hosts run.
func (h *hit) block(*soak) {
	commit := h.at.Run("cis490 version --json | jq -r .commit")
	h.at.Write("/etc/cis490/receiver.toml", h.at.Read("/etc/cis490/receiver.toml")+"[gate]\nblocked_commits = [\""+commit+"\"]\n", 0o644)
}

func (h *hit) unblock(*soak) {
	right, _, _ := strings.Cut(h.at.Read("/etc/cis490/receiver.toml"), "[gate]")
	h.at.Write("/etc/cis490/receiver.toml", right, 0o644)
}
