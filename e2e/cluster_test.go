//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"cis490/e2e/lab"
)

// takeover is how soon a host has to be acknowledged by another receiver.
const takeover = 10 * time.Second

// TestCluster_Receivers: three receivers, set up as docs/growing.md says, are updated one by one,
// one of them loses its power, its database, its store, and its clock. Ten hosts ship meanwhile.
// No episode is lost, no host has an alert, each fault is named with its fix, and each host is
// acknowledged by another receiver within ten seconds.
func TestCluster_Receivers(t *testing.T) {
	inLane(t)
	c := newCluster(t, 10)
	c.settle("a quiet fleet")
	c.rollingUpdate()

	rx := c.busiest()
	c.fault(rx, "its power is off", clusterFault{begin: rx.Crash, end: rx.Start, named: "no sign of life", off: true})
	c.fault(rx, "it does not reach the database", clusterFault{
		begin: func() { drop(rx, c.dbs...) }, end: func() { undrop(rx, c.dbs...) }, named: "no sign of life", ready: "database",
	})
	c.fault(rx, "it does not reach the store", clusterFault{
		begin: func() { drop(rx, c.objects) }, end: func() { undrop(rx, c.objects) }, named: "object store", ready: "object store",
	})
	c.fault(rx, "its clock is 20 minutes ahead", clusterFault{
		begin: func() { rx.StepClock(20 * time.Minute) }, end: func() { rx.StepClock(0) }, named: "clock", ready: "clock",
	})
}

// TestCluster_Storage: the database fails over to its standby, and the store is away for three
// minutes, while ten hosts ship to three receivers.
func TestCluster_Storage(t *testing.T) {
	inLane(t)
	c := newCluster(t, 10)
	c.settle("a quiet fleet")

	began := time.Now()
	c.dbs[0].Crash()
	c.rxs[1].Eventually(time.Minute, "readiness names the database", readyNames("database"))
	c.dbs[1].Run("cd / && sudo -u postgres psql -c 'SELECT pg_promote()'")
	promoted := time.Now()
	c.waitAcknowledged(promoted, 2*time.Minute)
	t.Logf("database: promoted %s after its crash; %s", promoted.Sub(began).Round(time.Second), c.gaps(promoted))
	c.waitBalanced(3)
	c.rxs[1].Eventually(time.Minute, "doctor reports that there is no standby",
		`cis490 doctor --only ledger.standby | grep 'there is no standby'`)
	c.settle("the database failed over")

	began = time.Now()
	c.objects.CutOff()
	c.rxs[2].Eventually(time.Minute, "readiness names the store", readyNames("object store"))
	a := c.waitAlert(3*time.Minute, "@receiver", "doctor-failing", "store.bucket")
	t.Logf("store: alert after %s: %s; %s", time.Since(began).Round(time.Second), a.Reason, a.Fix)
	time.Sleep(time.Until(began.Add(3 * time.Minute)))
	c.objects.Reconnect()
	back := time.Now()
	c.waitAcknowledged(back, 3*time.Minute)
	gaps := c.gaps(back)
	t.Logf("store: %s after its return", gaps)
	if most := 75 * time.Second; gaps.longest > most { // hosts wait up to a minute, and the store is noticed after seconds
		t.Errorf("store: %s after its return, want at most %s", gaps, most)
	}
	c.waitBalanced(3)
	c.settle("the store was away")
}

// clusterFault is a fault of one receiver.
type clusterFault struct {
	begin, end func()
	named      string // by cluster.ready, on the other receivers
	ready      string // by /readyz of the receiver itself
	off        bool
}

// fault runs a fault of a receiver, and checks what the others and the hosts do meanwhile.
func (c *clusterFleet) fault(rx *lab.Host, what string, f clusterFault) {
	c.t.Helper()
	c.spread()
	hosts := c.used(rx)
	if hosts == 0 {
		c.t.Errorf("%s: no host used %s before, so this shows nothing", what, rx.Name)
	}
	began := time.Now()
	f.begin()
	c.waitAcknowledged(began, time.Minute)
	gaps := c.gaps(began)
	c.t.Logf("%s, which %d hosts used: %s", what, hosts, gaps)
	if gaps.longest > takeover {
		c.t.Errorf("%s: %s, want at most %s", what, gaps, takeover)
	}
	other := c.rx
	other.Eventually(3*time.Minute, "doctor names "+rx.Name+": "+what,
		"cis490 doctor --only cluster.ready | tee /tmp/doctor; "+
			"grep 'FAIL  cluster.ready' /tmp/doctor && grep '"+rx.Name+" .*"+f.named+"' /tmp/doctor && grep 'fix: ' /tmp/doctor")
	c.t.Logf("%s: doctor after %s: %s", what, time.Since(began).Round(time.Second), other.Run("cat /tmp/doctor"))
	if f.ready != "" {
		rx.Eventually(time.Minute, "readyz names "+what, readyNames(f.ready))
		c.t.Logf("%s: readyz: %s", what, rx.Run("curl -sk https://"+rx.Name+".lab:8443/readyz || :"))
	}
	a := c.waitAlert(3*time.Minute, "@receiver", "doctor-failing", "cluster.ready")
	c.t.Logf("%s: alert after %s: %s; %s", what, time.Since(began).Round(time.Second), a.Reason, a.Fix)
	if status := other.Run("cis490 status"); !strings.Contains(status, rx.Name) {
		c.t.Errorf("%s: status does not name %s:\n%s", what, rx.Name, status)
	}
	f.end()
	c.waitBalanced(3)
	c.waitAllResolved(3*time.Minute, "@receiver")
	c.settle(what)
}

// rollingUpdate installs another version on the receivers, one by one.
func (c *clusterFleet) rollingUpdate() {
	c.t.Helper()
	v2 := c.binary("v2")
	for _, rx := range c.rxs {
		began := time.Now()
		rx.Push(v2, "/root/v2")
		rx.Eventually(3*time.Minute, "it is installed while no other update runs", "/root/v2 install receiver")
		c.waitBalanced(3)
		c.waitAcknowledged(time.Now(), time.Minute)
		gaps := c.gaps(began)
		c.t.Logf("update of %s: %s", rx.Name, gaps)
		if gaps.longest > takeover {
			c.t.Errorf("update of %s: %s, want at most %s", rx.Name, gaps, takeover)
		}
	}
	c.settle("all receivers were updated")
}

// busiest returns the receiver that most hosts use, of those that do not check the fleet: the
// one that does stays, so that faults are reported soon.
func (c *clusterFleet) busiest() (rx *lab.Host) {
	c.t.Helper()
	checker, most := c.checker(), 0
	c.spread()
	for _, x := range c.rxs {
		n := c.used(x)
		c.t.Logf("%s is used by %d hosts", x.Name, n)
		if x != checker && x != c.rx && n > most { // c.rx is asked what it sees
			rx, most = x, n
		}
	}
	if rx == nil {
		c.t.Fatal("no host uses a receiver that does not check the fleet")
	}
	return rx
}

// spread has each host connect again. A host keeps its connection, so after an update of all
// receivers none uses the last one until then.
func (c *clusterFleet) spread() {
	c.t.Helper()
	for _, h := range c.hosts {
		h.Run("systemctl restart cis490-shipper")
	}
	c.waitAcknowledged(time.Now().Add(time.Second), time.Minute)
}

// used returns how many hosts a receiver answered in the last seconds.
func (c *clusterFleet) used(rx *lab.Host) (n int) {
	c.t.Helper()
	out := rx.Run("journalctl -u cis490-receiver --since=-5s -o cat --no-pager | grep -o ' host=lab-[0-9]*' | sort -u | wc -l")
	if _, err := fmt.Sscan(out, &n); err != nil {
		c.t.Fatal(err)
	}
	return n
}

// checker returns the receiver that checks the fleet.
func (c *clusterFleet) checker() *lab.Host {
	c.t.Helper()
	name := c.rx.Eventually(2*time.Minute, "a receiver checks the fleet",
		`cis490 status --json | jq -er '.receivers[] | select(.does // [] | index("fleet-check")) | .name'`)
	first, _, _ := strings.Cut(name, " ")
	return c.Host(first)
}

// acknowledged returns when the host's receipts were written, by its clock.
func acknowledged(h *lab.Host) []time.Time {
	var all []time.Time
	if err := json.Unmarshal([]byte(h.Run("jq -s '[.[].at]' "+spool+"/shipped/receipts.jsonl")), &all); err != nil {
		panic(err)
	}
	return all
}

// A gapReport is the longest time that a host waited for an acknowledgement.
type gapReport struct {
	longest time.Duration
	host    string
	hosts   []time.Duration // of each, in order
}

func (g gapReport) String() string {
	return fmt.Sprintf("longest time without an acknowledgement %s (%s), of all hosts %v", g.longest, g.host, g.hosts)
}

// gaps returns the longest time since a moment in which each host got no acknowledgement.
func (c *clusterFleet) gaps(since time.Time) (g gapReport) {
	c.t.Helper()
	for _, h := range c.hosts {
		last, longest := since, time.Duration(0)
		for _, at := range acknowledged(h) {
			if at.After(since) {
				longest, last = max(longest, at.Sub(last)), at
			}
		}
		longest = longest.Round(100 * time.Millisecond)
		g.hosts = append(g.hosts, longest)
		if longest > g.longest {
			g.longest, g.host = longest, h.Name
		}
	}
	return g
}

// waitAcknowledged waits until each host got two acknowledgements since a moment.
func (c *clusterFleet) waitAcknowledged(since time.Time, limit time.Duration) {
	c.t.Helper()
	for _, h := range c.hosts {
		h.Eventually(limit, "episodes are acknowledged", fmt.Sprintf(
			`test $(tail -n 50 %s/shipped/receipts.jsonl | jq -r .at | awk '$0 > "%s"' | wc -l) -ge 2`,
			spool, since.UTC().Format("2006-01-02T15:04:05")))
	}
}

// settle waits until no alert is open, and checks that no acknowledged episode is lost and no
// host had an alert.
func (c *clusterFleet) settle(what string) {
	c.t.Helper()
	began := time.Now()
	c.checkEachStoredOnce()
	for _, a := range c.rows() {
		if a.Host != "@receiver" {
			c.t.Errorf("after %s: an alert of a host: %+v", what, a)
		}
	}
	c.t.Logf("after %s: checked in %s: %d rows", what, time.Since(began).Round(time.Second), len(c.index()))
}

// readyNames returns a command that succeeds when the receiver is not ready for a reason.
func readyNames(reason string) string {
	return `curl -sk https://$(hostname).lab:8443/readyz | tee /dev/stderr | grep '` + reason + `'`
}

// drop drops what a machine sends to others.
func drop(m *lab.Host, others ...*lab.Host) {
	for _, other := range others {
		m.Run("ip neigh replace " + other.Addr + " lladdr 02:00:00:00:00:01 dev eth0 nud permanent")
	}
}

func undrop(m *lab.Host, others ...*lab.Host) {
	for _, other := range others {
		m.Run("ip neigh del " + other.Addr + " dev eth0")
	}
}
