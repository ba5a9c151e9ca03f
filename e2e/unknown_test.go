//go:build e2e

package e2e

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"cis490/e2e/attack"
)

// TestMain runs this program as an attacker if attack.Arm started it, else the scenarios.
func TestMain(m *testing.M) {
	if attack.Process() {
		return
	}
	if err := lane.open(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	os.Exit(m.Run())
}

// probe uploads a shipped episode again in a loop, over new connections, and logs status
// and time of each answer.
const probe = `#!/bin/sh
c=/etc/cis490/certs
file=$(ls /var/lib/cis490/data/shipped/*.tar.zst | tail -1); id=$(basename $file .tar.zst); sum=$(sha256sum $file | cut -c1-64)
while sleep 0.5; do
  curl -sS -o /dev/null -w '%{http_code} %{time_total}\n' --max-time 20 \
    --cacert $c/ca.crt --cert $c/lab-host.pem --key $c/lab-host.pem -T $file \
    -H "Authorization: Bearer $(cat $c/bearer)" -H 'Content-Type: application/zstd' -H 'X-Schema-Version: 1' \
    -H "X-Content-SHA256: $sum" -H "X-Lab-Host: $(uname -n)" -H "X-Episode-Id: $id" \
    -H "X-Cis490-Code-Commit: $(cis490 version --json | jq -r .commit)" \
    https://collector.lab:8443/v1/episodes/$(uname -n)/$id.tar.zst 2>&1
done >>/tmp/probe
`

// TestUnknownClients attacks receiver and authority in every way at once, from 2 and from
// 100 addresses, for CIS490_ATTACK_FOR (30 s by default). Ten hosts record and ship
// meanwhile: an upload takes 2 s at most, no host is silent, serve needs at most 128 MiB and
// the authority 64 MiB, and metrics and page show the attack.
func TestUnknownClients(t *testing.T) {
	inLane(t)
	var names []string
	for i := range 10 {
		names = append(names, fmt.Sprintf("lab-%02d", i+1))
	}
	f := newSite(t, "[fleet]\nsilent_after = \"45s\"\n", names...)
	f.rx.Run("cd /root && ./cis490 install receiver")
	for _, h := range f.hosts {
		writeBusyConfig(h, 2*time.Second, authorityURL)
		f.join(h)
	}
	f.watchFleet()
	for _, h := range f.hosts {
		f.waitAccepted(h, 1, time.Minute)
		h.Write("/tmp/probe.sh", probe, 0o755)
		h.Run("systemd-run --quiet --unit=probe /tmp/probe.sh")
	}
	for _, addresses := range []int{2, 100} {
		f.attack(addresses)
	}
}

func (f *fleet) attack(addresses int) {
	f.t.Helper()
	length, err := time.ParseDuration(cmp.Or(os.Getenv("CIS490_ATTACK_FOR"), "30s"))
	if err != nil {
		f.t.Fatal(err)
	}
	serve := attack.Plan{Addr: f.rx.Addr + ":8443", For: length, Workers: 60, Get: "/sign-in", Post: "/v1/ping", Form: "/sign-in"}
	issue := attack.Plan{Addr: f.rx.Addr + ":8444", For: length, Workers: 30, Get: "/v1/ca", Post: "/v1/cert/lab-01"}
	for i := range addresses {
		from := fmt.Sprintf("10.49.200.%d", i+1)
		_ = f.Command("ip", "addr", "add", from+"/16", "dev", "switch").Run() // may exist
		serve.From, issue.From = append(serve.From, from), append(issue.From, from)
	}
	for _, h := range f.hosts {
		h.Run(": >/tmp/probe")
	}
	began := f.rx.Run("date +%s")
	before := len(f.index())
	var running []*exec.Cmd
	for _, p := range []attack.Plan{serve, issue} {
		cmd, err := p.Arm(f.Command(os.Args[0]))
		cmd.Stderr = os.Stderr
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			f.t.Fatal(err)
		}
		running = append(running, cmd)
	}
	f.rx.Eventually(30*time.Second, "the attack is in the metrics",
		`curl -fsSk -H "Authorization: Bearer $(cat /etc/cis490/operator)" https://collector.lab:8443/metrics | `+
			`grep -E 'cis490_connections_(evicted_total.state="unverified"|refused_total).* [1-9]'`)
	for _, cmd := range running {
		if err := cmd.Wait(); err != nil {
			f.t.Errorf("an attacker failed: %v", err)
		}
	}
	slowest, answers := f.probeResults()
	if slowest > 2 || answers < 10*int(length.Seconds())/4 {
		f.t.Errorf("%d addresses: %d probes were answered, the slowest took %.2f s", addresses, answers, slowest)
	}
	if page := f.rx.Run(`curl -fsSk -H "Authorization: Bearer $(cat /etc/cis490/operator)" ` +
		`https://collector.lab:8443/`); !strings.Contains(page, "Unknown clients: ") {
		f.t.Errorf("the page does not show the attack")
	}
	memory := map[string]int{}
	for unit, limit := range map[string]int{"cis490-receiver": 128, "cis490-bootstrap": 64} {
		memory[unit] = f.peakMemory(unit)
		if memory[unit] > limit {
			f.t.Errorf("%d addresses: %s had %d MiB", addresses, unit, memory[unit])
		}
	}
	for _, a := range f.open() {
		if a.Symptom == "silent" {
			f.t.Errorf("%d addresses: %s is silent", addresses, a.Host)
		}
	}
	lines := f.rx.Run("journalctl -q -o cat --since @" + strings.TrimSpace(began) +
		` -u cis490-receiver -u cis490-bootstrap | grep -cE 'status=4|refused|too many|cannot be read' || true`)
	f.t.Logf("%d addresses, %s: slowest of %d probes %.2f s; %d episodes stored; memory %v MiB; lines about unknown clients: %s",
		addresses, length, answers, slowest, len(f.index())-before, memory, lines)
}

// probeResults returns the slowest answer of all hosts' probes, in seconds, and the number
// of answers.
func (f *fleet) probeResults() (slowest float64, answers int) {
	f.t.Helper()
	for _, h := range f.hosts {
		for line := range strings.Lines(h.Read("/tmp/probe")) {
			var status int
			var took float64
			if _, err := fmt.Sscanf(line, "%d %f", &status, &took); err != nil || status != 200 {
				f.t.Errorf("%s: a probe was answered %q", h.Name, line)
			}
			slowest, answers = max(slowest, took), answers+1
		}
	}
	return slowest, answers
}

// peakMemory returns the peak memory of a unit's process, in MiB.
func (f *fleet) peakMemory(unit string) int {
	f.t.Helper()
	out := f.rx.Run("grep VmHWM /proc/$(systemctl show -p MainPID --value " + unit + ")/status")
	var kib int
	if _, err := fmt.Sscan(regexp.MustCompile(`\d+`).FindString(out), &kib); err != nil {
		f.t.Fatalf("%s: %q: %v", unit, out, err)
	}
	return kib >> 10
}
